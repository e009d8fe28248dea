"""Shards over a real store: growing and sealed segments, deletions, restarts, damage.

The oracle compares with every live vector by hand.
"""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retriever.catalog import Catalog, OpenCollection
from services.retriever.lexical.indexer import Indexer
from services.retriever.sealer import Sealer
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.records import Collection
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.view_search import search_views
from sirdar.errors import ResourceExhausted
from tests.retriever_data import definition, document, vectors, write

SEAL_VECTORS = 200
SEAL_SECONDS = 60


class Opened:
    """A catalog over a store in a folder, and the vectors that should be found in it."""

    def __init__(
        self, folder: Path, index_kind: str = "hnsw", snapshots: Snapshots | None = None
    ) -> None:
        self.sealer = Sealer(build_threads=1, quiet_seconds=0.05)
        self.catalog = Catalog(
            folder / "segments",
            self.sealer,
            Indexer(max_writers=1, max_readers=1, max_waiting_bytes=2**20),
            seal_vectors=SEAL_VECTORS,
            snapshots=snapshots,
        )
        self.store = SqliteStore(
            folder / "store.sqlite3", self.catalog.apply, max_waiting_bytes=2**26
        )
        self.catalog.open_all(self.store)
        self.sealer.start()
        if not self.catalog.all():
            made = definition("books", shards=2, index_kind=index_kind)
            self.catalog.open(self.store.create_collection(made).result(), self.store)

    @property
    def collection(self) -> Collection:
        return self.store.collection("default", "books")

    @property
    def books(self) -> OpenCollection:
        return self.catalog.get("default", "books")

    def close(self) -> None:
        self.sealer.close()
        self.store.close()

    def index(self, ids: Sequence[str], seed: int) -> NDArray[np.float16]:
        """Writes documents of two passages each; their vectors, two rows a document."""
        rows = vectors(2 * len(ids), seed)
        for start in range(0, len(ids), 50):
            batch = [
                document(ids[at], passages=2, vectors=rows[2 * at : 2 * at + 2])
                for at in range(start, min(start + 50, len(ids)))
            ]
            write(self.store, self.collection, *batch)
        return rows

    def delete(self, ids: Sequence[str]) -> None:
        self.store.delete_documents(self.collection.generation, ids).result()

    def seal(self) -> None:
        assert self.sealer.wait_idle(SEAL_SECONDS)

    def search(
        self, queries: NDArray[np.float32], k: int, *, exact: bool
    ) -> list[list[tuple[str, int]]]:
        """(document id, passage index) of each query's candidates, best first."""
        views = [shard.view for shard in self.books.shards]
        answers = []
        for found in search_views(views, queries, k, exact):
            passages = self.store.passages(found.ids, with_text=False)
            answers.append([(passages[at].document_id, passages[at].position) for at in found.ids])
        return answers


@contextmanager
def opened(folder: Path, index_kind: str = "hnsw") -> Iterator[Opened]:
    it = Opened(folder, index_kind)
    try:
        yield it
    finally:
        it.close()


def oracle(
    live: dict[str, NDArray[np.float16]], queries: NDArray[np.float32], k: int
) -> list[list[tuple[str, int]]]:
    names = [(name, index) for name in live for index in range(len(live[name]))]
    scores = queries @ np.concatenate(list(live.values())).astype(np.float32).T
    return [[names[at] for at in np.argsort(-row)[:k]] for row in scores]


def queries(count: int) -> NDArray[np.float32]:
    return vectors(count, seed=77).astype(np.float32)


def by_document(ids: Sequence[str], rows: NDArray[np.float16]) -> dict[str, NDArray[np.float16]]:
    return {name: rows[2 * at : 2 * at + 2] for at, name in enumerate(ids)}


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


def test_a_deletion_while_the_index_is_built_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, go_on = threading.Event(), threading.Event()
    run_child = Sealer._run_child

    def slow(self: Sealer, folder: Path, index_kind: str) -> bytes:
        building.set()
        go_on.wait()
        return run_child(self, folder, index_kind)

    monkeypatch.setattr(Sealer, "_run_child", slow)
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


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "newer", "other shard's"])
def test_damaged_segment_files_are_built_again(tmp_path: Path, damage: str) -> None:
    ids = [f"d{at}" for at in range(900)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=10))
        it.seal()
        live |= by_document(ids[:60], it.index(ids[:60], seed=11))
        it.delete(ids[:50])
        live = {name: rows for name, rows in live.items() if name not in ids[:50]}
        folder = it.books.shards[0].folder.path
        committed = it.store.committed_seqs(it.collection.generation)[0]
    manifest = folder / "manifest.json"
    for file in (manifest,) if damage in ("manifest", "newer") else folder.glob("*.faiss"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "flip":
            file.write_bytes(content)
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "remove":
            file.unlink()
        elif damage == "manifest":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "newer":
            # Still JSON, and says that more is in the segments than is.
            text = re.sub(rb'("covered_seq": )\d+', rb"\g<1>%d" % committed, file.read_bytes())
            file.write_bytes(text)
        else:
            file.write_bytes(next((folder.parent / "1").glob("*.faiss")).read_bytes())
    for _ in range(2):
        with opened(tmp_path) as it:
            assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
            it.seal()
            assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
            assert all(shard.sealed_segments for shard in it.books.shards)


def test_segments_ahead_of_a_restored_store_are_not_served(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(900)]
    with opened(tmp_path) as it:
        live = by_document(ids[:300], it.index(ids[:300], seed=17))
    backup = (tmp_path / "store.sqlite3").read_bytes()
    with opened(tmp_path) as it:
        it.index(ids[300:], seed=18)
        it.delete(ids[:10])
        it.seal()
    (tmp_path / "store.sqlite3").write_bytes(backup)
    with opened(tmp_path) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


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


def test_a_failed_build_leaves_writes_and_searches_alone_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_child = Sealer._run_child
    failures: list[float] = []

    def full_disk(self: Sealer, folder: Path, index_kind: str) -> bytes:
        if not failures:
            failures.append(time.monotonic())
            raise OSError(28, "No space left on device")
        return run_child(self, folder, index_kind)

    monkeypatch.setattr(Sealer, "_run_child", full_disk)
    ids = [f"d{at}" for at in range(500)]
    with opened(tmp_path) as it:
        try:
            live = by_document(ids, it.index(ids, seed=13))
        except ResourceExhausted:
            pytest.fail("a build that fails must not refuse writes")
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)
        it.seal()
        assert failures
        assert all(shard.sealed_segments for shard in it.books.shards)
        leftovers = list(tmp_path.rglob("*.building"))
        assert leftovers == []


def test_a_search_keeps_the_view_that_it_took(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        rows = it.index(["a", "b"], seed=14)
        views = [shard.view for shard in it.books.shards]
        it.index(["a"], seed=15)
        it.delete(["b"])
        found = search_views(views, rows[:1].astype(np.float32), 4, True)[0]
        assert len(found.ids) == 4


def test_a_deleted_collections_segments_are_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.index([f"d{at}" for at in range(500)], seed=16)
        it.seal()
        folder = it.books.shards[0].folder.path.parent
        assert folder.exists()
        it.store.delete_collection("default", "books").result()
        it.catalog.remove("default", "books")
        assert not folder.exists()
