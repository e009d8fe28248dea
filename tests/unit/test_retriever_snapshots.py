"""Snapshots: what is copied where, what is taken from it, and what never is."""

import errno
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.manifest import taken_ns
from services.retriever.snapshots.retention import writer_of
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.snapshots.taking import Snapshot
from sirdar.errors import FailedPrecondition, NotFound, ResourceExhausted, SirdarError, Unavailable
from tests.retriever_data import definition
from tests.unit.test_retriever_shards import Opened, by_document, oracle, queries

KEPT = 2


class Snapped(Opened):
    """A catalog over a store in a folder, with snapshots somewhere."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(exist_ok=True)
        self.snapshots = Snapshots(SnapshotLocation(url), kept=KEPT, writer=writer_of(folder))
        super().__init__(folder, snapshots=self.snapshots)

    def take(self) -> Snapshot:
        return self.snapshots.submit(self.collection, self.store, self.books.shards).result()

    def close(self) -> None:
        self.snapshots.close()
        super().close()


@contextmanager
def snapped(folder: Path, url: str) -> Iterator[Snapped]:
    it = Snapped(folder, url)
    try:
        yield it
    finally:
        it.close()


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield (tmp_path / "snapshots").as_uri() if request.param == "file" else "memory://snapshots"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def filled(it: Snapped, count: int = 600) -> dict[str, NDArray[np.float16]]:
    ids = [f"d{at}" for at in range(count)]
    live = by_document(ids, it.index(ids, seed=1))
    it.seal()
    assert all(shard.sealed_segments for shard in it.books.shards)
    return live


def lose_segments(folder: Path) -> None:
    shutil.rmtree(folder / "segments")


def restored() -> float:
    return REGISTRY.get_sample_value("sirdar_retriever_shards_restored_total") or 0.0


def refused() -> float:
    return REGISTRY.get_sample_value("sirdar_retriever_shards_not_restored_total") or 0.0


def objects(url: str, part: str = "objects") -> dict[str, int]:
    """Names and sizes, of the one store and generation."""
    found = {}
    location = SnapshotLocation(url)
    fs, root = location._fs, location._root
    for path, detail in fs.find(root, detail=True).items():
        if f"/{part}/" in path:
            found[path] = detail["size"]
    return found


def test_lost_segments_come_from_the_snapshot(tmp_path: Path, url: str) -> None:
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        taken = it.take()
        assert taken.covered_seqs == tuple(
            shard.folder.open(10**9).covered_seq for shard in it.books.shards
        )
        assert taken.size_bytes == sum(objects(url).values())
        assert taken.url.startswith(url.split(":", maxsplit=1)[0])
        # What came after is replayed from the store.
        live |= by_document(["d1", "new"], it.index(["d1", "new"], seed=2))
        it.delete(["d2"])
        del live["d2"]
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert all(shard.sealed_segments for shard in it.books.shards)
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
    # From its own folder the next time.
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_what_did_not_change_is_not_copied_again_and_old_snapshots_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        puts: list[str] = []
        put = SnapshotLocation.put

        def counted(self: SnapshotLocation, name: str, chunks: Iterable[bytes]) -> None:
            puts.append(name)
            put(self, name, chunks)

        monkeypatch.setattr(SnapshotLocation, "put", counted)
        first = it.take()
        assert sum("/objects/" in name for name in puts) == len(objects(url))
        puts.clear()
        monkeypatch.setattr("time.time_ns", lambda: 5)
        second = it.take()
        assert ["/objects/" in name for name in puts] == [False]
        # A clock that jumps back does not make the newest the oldest.
        assert taken_ns(second.name) > taken_ns(first.name)
        monkeypatch.undo()
        it.index([f"more{at}" for at in range(900)], seed=3)
        it.seal()
        third, fourth = it.take(), it.take()
        assert it.store.snapshots(it.collection.generation) == [third.name, fourth.name]
        assert [Path(path).name for path in sorted(objects(url, "manifests"))] == [
            third.name,
            fourth.name,
        ]
        # The first ones' segments were merged away, and are in no snapshot that is kept.
        assert sum(objects(url).values()) == fourth.size_bytes


def test_a_merge_meanwhile_takes_nothing_from_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        put = SnapshotLocation.put
        merged: list[str] = []

        def slow(self: SnapshotLocation, name: str, chunks: Iterable[bytes]) -> None:
            if not merged:
                merged.append(name)
                ids = [f"more{at}" for at in range(900)]
                live.update(by_document(ids, it.index(ids, seed=4)))
                it.seal()
            put(self, name, chunks)

        monkeypatch.setattr(SnapshotLocation, "put", slow)
        it.take()
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_manifest_that_was_damaged_while_nothing_ran_is_not_in_the_next_snapshot(
    tmp_path: Path,
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        folder = it.books.shards[0].folder.path
    flip(folder / "manifest.json")
    with snapped(tmp_path / "data", url) as it:
        assert it.take().covered_seqs[0] == 0
        it.seal()
        assert it.take().covered_seqs[0] > 0
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


@pytest.mark.parametrize(
    ("part", "damage"),
    [("objects", flip), ("objects", cut), ("objects", Path.unlink), ("manifests", flip)],
)
def test_a_damaged_snapshot_is_not_served_and_the_next_one_is_whole(
    tmp_path: Path, part: str, damage: Callable[[Path], None]
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        it.take()
    for path in objects(url, part):
        damage(Path(path))
    lose_segments(tmp_path / "data")
    before, refused_before = restored(), refused()
    with snapped(tmp_path / "data", url) as it:
        assert restored() == before
        assert refused() - refused_before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
        assert not list((tmp_path / "data").rglob("restore.building"))
        it.seal()
        it.take()
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_an_older_snapshot_is_used_where_the_newest_is_damaged(tmp_path: Path) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        it.take()
        flip_later = it.take()
    (newest,) = [path for path in objects(url, "manifests") if path.endswith(flip_later.name)]
    flip(Path(newest))
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_a_snapshot_of_another_collection_or_past_is_refused(tmp_path: Path) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = by_document(["a"], it.index(["a"], seed=5))
    backup = (tmp_path / "data" / "store.sqlite3").read_bytes()
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        it.take()
    # The store as it was before, which then grows beyond what the snapshot has.
    (tmp_path / "data" / "store.sqlite3").write_bytes(backup)
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        ids = [f"other{at}" for at in range(900)]
        live |= by_document(ids, it.index(ids, seed=6))
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() == before
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
    # A manifest of another collection under a name that the store knows.
    with snapped(tmp_path / "data", url) as it:
        it.seal()
        it.take()
        made = definition("films", shards=2)
        films = it.store.create_collection(made).result()
        it.catalog.open(films, it.store)
        shards = it.catalog.get("default", "films").shards
        strange = it.snapshots.submit(films, it.store, shards).result()
        it.store.keep_snapshots(it.collection.generation, [strange.name]).result()
    folder = Path(next(iter(objects(url, "manifests")))).parents[2]
    (source,) = folder.rglob(strange.name)
    books = folder / "1" / "manifests"
    shutil.copy(source, books / strange.name)
    lose_segments(tmp_path / "data")
    refused_before = refused()
    with snapped(tmp_path / "data", url) as it:
        assert refused() - refused_before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_two_stores_share_a_location(tmp_path: Path) -> None:
    url = (tmp_path / "snapshots").as_uri()
    lives = {}
    for name in ("one", "two"):
        with snapped(tmp_path / name, url) as it:
            ids = [f"{name}{at}" for at in range(600)]
            lives[name] = by_document(ids, it.index(ids, seed=len(name) + ord(name[0])))
            it.seal()
            it.take()
    for name, live in lives.items():
        lose_segments(tmp_path / name)
        before = restored()
        with snapped(tmp_path / name, url) as it:
            assert restored() - before == 2
            assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ResourceExhausted),
        (OSError(errno.EROFS, "Read-only file system"), FailedPrecondition),
        (PermissionError("AccessDenied"), FailedPrecondition),
        (FileNotFoundError("NoSuchBucket"), FailedPrecondition),
        (OSError("connection reset"), Unavailable),
        (RuntimeError("something of the library's own"), Unavailable),
    ],
)
def test_a_location_that_fails_says_how_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[SirdarError]
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    with snapped(tmp_path / "data", "memory://failing") as it:
        live = filled(it)
        first = it.take()
        it.index([f"more{at}" for at in range(900)], seed=7)
        it.delete([f"more{at}" for at in range(900)])
        it.seal()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "_open", failing)
            with pytest.raises(expected, match=r"the snapshot location memory://.*(:|retry)"):
                it.take()
        assert it.store.snapshots(it.collection.generation) == [first.name]
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
        it.take()
    MemoryFileSystem.store.clear()


def test_a_location_that_keeps_less_than_it_was_given_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with snapped(tmp_path / "data", "memory://lying") as it:
        filled(it)
        info = MemoryFileSystem.info

        def less(self: MemoryFileSystem, path: str, **options: object) -> dict[str, object]:
            found: dict[str, object] = info(self, path, **options)
            return found | {"size": 7}

        monkeypatch.setattr(MemoryFileSystem, "info", less)
        with pytest.raises(Unavailable, match="kept 7 of the"):
            it.take()
        assert it.store.snapshots(it.collection.generation) == []
    MemoryFileSystem.store.clear()


def test_a_folder_that_is_a_file_and_a_url_that_nothing_knows(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with snapped(tmp_path / "data", (tmp_path / "file" / "below").as_uri()) as it:
        filled(it)
        with pytest.raises(FailedPrecondition) as raised:
            it.take()
        assert raised.value.reason == "SNAPSHOT_LOCATION_MISSING"
    with pytest.raises(FailedPrecondition) as raised:
        SnapshotLocation("nosuch://bucket")
    assert raised.value.reason == "BAD_SNAPSHOT_URL"
    nowhere = Snapshots(None, kept=1, writer="")
    with snapped(tmp_path / "data", tmp_path.as_uri()) as it:
        with pytest.raises(FailedPrecondition) as raised:
            nowhere.submit(it.collection, it.store, it.books.shards)
        assert raised.value.reason == "NO_SNAPSHOT_LOCATION"
    nowhere.close()


def test_snapshots_at_intervals_are_of_what_changed(tmp_path: Path) -> None:
    with snapped(tmp_path / "data", (tmp_path / "snapshots").as_uri()) as it:

        def take() -> Snapshot | None:
            return it.snapshots.take_changed(it.collection, it.store, it.books.shards)

        assert take() is None
        filled(it)
        assert take() is not None
        assert take() is None
        it.index([f"more{at}" for at in range(600)], seed=8)
        it.seal()
        assert take() is not None


def test_snapshots_of_a_deleted_collection_are_deleted(tmp_path: Path, url: str) -> None:
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        it.take()
        generation = it.store.delete_collection("default", "books").result()
        it.snapshots.forget("default", "books", generation, it.store)
    # Closing waits for it.
    assert objects(url) == objects(url, "manifests") == {}


def test_a_snapshot_that_meets_the_deletion_of_its_collection_leaves_nothing(
    tmp_path: Path, url: str
) -> None:
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        collection, shards = it.collection, it.books.shards
        generation = it.store.delete_collection("default", "books").result()
        it.snapshots.forget("default", "books", generation, it.store)
        # It was asked for before, and comes after.
        with pytest.raises(NotFound):
            it.snapshots.submit(collection, it.store, shards).result()
    assert objects(url) == objects(url, "manifests") == {}


def test_a_copy_of_a_store_deletes_no_snapshot_of_the_original(tmp_path: Path, url: str) -> None:
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        originals = [it.take().name, it.take().name]
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with snapped(tmp_path / "copy", url) as it:
        it.index([f"more{at}" for at in range(900)], seed=3)
        it.seal()
        copies = [it.take().name for _ in range(KEPT + 1)]
        names = {Path(path).name for path in objects(url, "manifests")}
        assert names == {*originals, *copies[-KEPT:]}
        generation = it.store.delete_collection("default", "books").result()
        it.snapshots.forget("default", "books", generation, it.store)
    assert {Path(path).name for path in objects(url, "manifests")} == set(originals)
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_a_location_that_hangs_is_asked_once_and_does_not_hold_up_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        it.take()
    lose_segments(tmp_path / "data")
    back, asked = threading.Event(), []

    def hanging(self: SnapshotLocation, name: str) -> Iterator[bytes]:
        asked.append(name)
        back.wait()
        yield b""

    monkeypatch.setattr(SnapshotLocation, "_chunks", hanging)
    monkeypatch.setattr("services.retriever.snapshots.location.PATIENCE_SECONDS", 0.05)
    refused_before = refused()
    with snapped(tmp_path / "data", url) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
    assert refused() - refused_before == len(asked) == 1
    back.set()


def test_closing_does_not_wait_for_a_long_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    it = Snapped(tmp_path / "data", url)
    filled(it)
    put = SnapshotLocation.put

    def closing(self: SnapshotLocation, name: str, chunks: Iterable[bytes]) -> None:
        it.snapshots._closing.set()
        put(self, name, chunks)

    monkeypatch.setattr(SnapshotLocation, "put", closing)
    with pytest.raises(Unavailable, match="closing"):
        it.take()
    it.close()
    assert objects(url) == {}


CHILD = """
import os, signal, sys
from pathlib import Path
from services.retriever.snapshots.location import SnapshotLocation
from tests.unit.test_retriever_snapshots import Snapped, filled

it = Snapped(Path(sys.argv[1]), sys.argv[2])
filled(it)
put, puts = SnapshotLocation._put_durably, []
def dying(self, file, chunks):
    def killed():
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            if len(puts) == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk[len(chunk) // 2 :]
    puts.append(file)
    put(self, file, killed())
SnapshotLocation._put_durably = dying
it.take()
"""


@pytest.mark.parametrize("at", [2, 5])
def test_a_kill_in_the_midst_leaves_no_half_snapshot(tmp_path: Path, at: int) -> None:
    url = (tmp_path / "snapshots").as_uri()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "data"), url, str(at)], check=False
    )
    assert child.returncode == -signal.SIGKILL
    left = objects(url)
    assert len(left) == min(at, 4)
    with snapped(tmp_path / "data", url) as it:
        assert it.store.snapshots(it.collection.generation) == []
        taken = it.take()
        # What was whole is used, what was not is gone.
        assert sum(objects(url).values()) == taken.size_bytes
        assert len(objects(url, "manifests")) == 1
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url):
        assert restored() - before == 2
