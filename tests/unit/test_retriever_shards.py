"""Shards over a real store: growing and sealed segments, deletions, restarts."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from services.retriever.sealer import Sealer
from services.retriever.shard import Shard
from services.retriever.shard_folder import ShardFolder
from services.retriever.view_search import search_views
from tests.opened_shards import SEAL_SECONDS, by_document, opened, oracle, queries


@pytest.mark.parametrize("index_kind", ["hnsw", "flat"])
def test_exact_search_is_brute_force_through_every_kind_of_segment(
    tmp_path: Path, index_kind: str
) -> None:
    ids = [f"d{at}" for at in range(700)]
    with opened(tmp_path, index_kind) as it:
        live = by_document(ids, it.index(ids, seed=1))
        it.seal()
        assert all(shard.sealed_segments for shard in it.books.shards)
        # Replaced and deleted in sealed and growing segments alike.
        newer = [*ids[::5], "new1", "new2"]
        live |= by_document(newer, it.index(newer, seed=2))
        it.delete(ids[3::7])
        live = {name: rows for name, rows in live.items() if name not in set(ids[3::7])}
        for k in (1, 10, 300, 5000):
            assert it.search(queries(8), k, exact=True) == oracle(live, queries(8), k)


def test_writes_are_seen_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        rows = it.index(["d"], seed=3)
        assert it.search(rows[1:].astype(np.float32), 2, exact=False) == oracle(
            {"d": rows}, rows[1:].astype(np.float32), 2
        )
        it.delete(["d"])
        assert it.search(queries(1), 2, exact=False) == [[]]


def test_sealed_segments_find_what_brute_force_finds(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(3000)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=4))
        it.seal()
        assert max(view.rows for shard in it.books.shards for view in shard.view.segments) > 2000
        wanted = oracle(live, queries(50), 10)
        found = it.search(queries(50), 10, exact=False)
        overlap = sum(len(set(a) & set(b)) for a, b in zip(wanted, found, strict=True))
        assert overlap / 500 > 0.95


def test_deleted_neighbours_leave_their_places_to_live_ones(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(3000)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=5))
        it.seal()
        query = queries(1)
        # All around the query is deleted, and more than a walk of the graph looks at.
        gone = {name for name, _ in oracle(live, query, 800)[0]}
        it.delete(sorted(gone))
        left = {name: rows for name, rows in live.items() if name not in gone}
        assert set(it.search(query, 20, exact=False)[0]) == set(oracle(left, query, 20)[0])
        # Other queries lose a few neighbours each.
        wanted = oracle(left, queries(50), 10)
        found = it.search(queries(50), 10, exact=False)
        overlap = sum(len(set(a) & set(b)) for a, b in zip(wanted, found, strict=True))
        assert overlap / 500 > 0.95


def test_merging_keeps_few_segments_and_drops_tombstones(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        for round_ in range(8):
            ids = [f"d{round_}-{at}" for at in range(200)]
            it.index(ids, seed=round_)
            it.delete(ids[::2])
            it.seal()
        for shard in it.books.shards:
            assert shard.sealed_segments <= 4
            sealed_files = [path for path in shard.folder.path.iterdir() if path.is_file()]
            assert len(sealed_files) == 2 * shard.sealed_segments + 1
            assert sum(view.dead for view in shard.view.segments) < 400


def held_builds(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """From now on a build sets the first event, and waits for the second."""
    building, go_on = threading.Event(), threading.Event()
    run_child = Sealer._run_child

    def slow(self: Sealer, shard: Shard, folder: Path) -> bytes:
        building.set()
        go_on.wait()
        return run_child(self, shard, folder)

    monkeypatch.setattr(Sealer, "_run_child", slow)
    return building, go_on


def test_what_is_read_again_while_the_index_is_built_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a replica reads a document whose metadata alone was changed: with the passages that it
    has, and older ones of it are dead in a sealed segment."""
    ids = [f"d{at}" for at in range(1500)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=1))
        it.seal()
        building, go_on = held_builds(monkeypatch)
        # Few enough that the sealed segment is not written again with them.
        live |= by_document(ids[:250], it.index(ids[:250], seed=2))
        building.wait()
        for shard in it.books.shards:
            shard.apply(list(it.store.changes(shard.generation, shard.number, 0)))
        go_on.set()
        it.seal()
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)


def test_a_deletion_while_the_index_is_built_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, go_on = held_builds(monkeypatch)
    ids = [f"d{at}" for at in range(500)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=6))
        building.wait()
        it.delete(ids[:100])
        newer = ids[100:200]
        live |= by_document(newer, it.index(newer, seed=7))
        live = {name: rows for name, rows in live.items() if name not in ids[:100]}
        # Searches and writes go on meanwhile.
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)
        go_on.set()
        it.seal()
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)


def test_a_restart_gives_the_same_answers_from_the_same_segments(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(1200)]
    with opened(tmp_path) as it:
        it.index(ids, seed=8)
        it.seal()
        it.index(ids[:30], seed=9)
        it.delete(ids[30:90])
        before = it.search(queries(20), 10, exact=False)
        sealed = [shard.sealed_segments for shard in it.books.shards]
        applied = [shard.view.applied_seq for shard in it.books.shards]
    with opened(tmp_path) as it:
        assert it.search(queries(20), 10, exact=False) == before
        assert [shard.sealed_segments for shard in it.books.shards] == sealed
        assert [shard.view.applied_seq for shard in it.books.shards] == applied
        assert applied == it.store.committed_seqs(it.collection.generation)


def test_replaying_the_log_again_changes_nothing(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(400)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=11))
        it.seal()
        live |= by_document(ids[:40], it.index(ids[:40], seed=12))
        rows = [sum(view.rows for view in shard.view.segments) for shard in it.books.shards]
        for shard in it.books.shards:
            shard.apply(list(it.store.changes(shard.generation, shard.number, 0)))
        assert rows == [sum(view.rows for view in shard.view.segments) for shard in it.books.shards]
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_a_search_keeps_the_view_that_it_took(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        rows = it.index(["a", "b"], seed=14)
        views = [shard.view for shard in it.books.shards]
        it.index(["a"], seed=15)
        it.delete(["b"])
        found = search_views(views, rows[:1].astype(np.float32), 4, True)[0]
        assert len(found.ids) == 4


@pytest.mark.parametrize("step", ["build_folder", "adopt", "record"])
def test_a_collection_that_is_deleted_while_it_is_sealed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    went_on = getattr(ShardFolder, step)
    with opened(tmp_path) as it:
        written, deleted = threading.Event(), threading.Event()

        def delete() -> None:
            it.store.delete_collection("default", "books").result()
            it.catalog.remove("default", "books")
            deleted.set()

        def delete_meanwhile(folder: ShardFolder, *given: object) -> object:
            monkeypatch.setattr(ShardFolder, step, went_on)
            assert written.wait(SEAL_SECONDS)
            (shard,) = (shard for shard in it.books.shards if shard.folder is folder)
            threading.Thread(target=delete).start()
            while not shard.dropped:
                time.sleep(0.001)
            return went_on(folder, *given)

        monkeypatch.setattr(ShardFolder, step, delete_meanwhile)
        it.index([f"d{at}" for at in range(250)], seed=17)
        written.set()
        assert deleted.wait(SEAL_SECONDS)
        it.seal()
        assert list((tmp_path / "segments").iterdir()) == []
        assert it.sealer.backlog() == 0


def test_a_deleted_collections_segments_are_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.index([f"d{at}" for at in range(500)], seed=16)
        it.seal()
        folder = it.books.shards[0].folder.path.parent
        assert folder.exists()
        it.store.delete_collection("default", "books").result()
        it.catalog.remove("default", "books")
        assert not folder.exists()
