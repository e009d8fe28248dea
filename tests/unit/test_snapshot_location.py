"""Locations of snapshots that fail, lie, hang or are no locations."""

import errno
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.snapshots import Snapshots
from sirdar.errors import FailedPrecondition, ResourceExhausted, SirdarError, Unavailable
from tests.opened_shards import oracle, queries
from tests.snapped_shards import Snapped, filled, lose_segments, objects, refused, snapped


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


def test_a_folder_is_gone_also_where_another_deletes_in_it_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = SnapshotLocation(tmp_path.as_uri())
    for name in ("of/one", "of/two", "others"):
        location.put(name, [b"some"])
    remove = LocalFileSystem.rm
    left = ["once", "twice"]

    def rm(self: LocalFileSystem, path: str, **options: bool) -> None:
        if left:
            left.pop()
            raise FileNotFoundError(f"{path}/one")
        remove(self, path, **options)

    monkeypatch.setattr(LocalFileSystem, "rm", rm)
    location.delete_folder("of")
    assert [path.name for path in tmp_path.iterdir()] == ["others"]
    location.delete_folder("of")


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


def test_a_location_that_never_answers_does_not_keep_the_retriever_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Snapped(tmp_path / "data", (tmp_path / "snapshots").as_uri())
    filled(it)
    asked, back = threading.Event(), threading.Event()

    def hanging(self: SnapshotLocation, name: str, chunks: Iterable[bytes]) -> None:
        asked.set()
        back.wait()

    monkeypatch.setattr(SnapshotLocation, "put", hanging)
    monkeypatch.setattr("services.retriever.snapshots.snapshots.CLOSING_SECONDS", 0.05)
    collection, shards = it.collection, it.books.shards

    def take_changed() -> None:
        it.snapshots.take_changed(collection, it.store, shards)

    # Also not where snapshots are taken at intervals, by a thread that waits for each.
    it.snapshots.start(0.01, take_changed)
    assert asked.wait(20)
    waiting = it.snapshots.submit(collection, it.store, shards)
    it.close()
    with pytest.raises(Unavailable, match="closing"):
        waiting.result(0)
    back.set()


def test_snapshots_of_a_collection_that_is_deleted_while_all_is_closed_stay(
    tmp_path: Path,
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        taken = it.take()
        it.snapshots.close()
        generation = it.store.delete_collection("default", "books").result()
        it.snapshots.forget("default", "books", generation, it.store)
    assert [Path(path).name for path in objects(url, "manifests")] == [taken.name]
