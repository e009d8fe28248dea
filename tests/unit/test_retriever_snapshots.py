"""Snapshots: what is copied where, what is taken from it, and when it goes."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.manifest import taken_ns
from services.retriever.snapshots.taking import Snapshot
from sirdar.errors import NotFound
from tests.opened_shards import by_document, oracle, queries
from tests.snapped_shards import KEPT, filled, lose_segments, objects, restored, snapped


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield (tmp_path / "snapshots").as_uri() if request.param == "file" else "memory://snapshots"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


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
