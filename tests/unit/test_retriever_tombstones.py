"""Tombstones are purged after a time, and indexes that were away for longer miss no deletion."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest

from services.retriever.catalog import Catalog
from services.retriever.lexical.indexer import Indexer
from services.retriever.replica.replay import Replay
from services.retriever.sealer import Sealer
from services.retriever.store.interface import Store
from services.retriever.store.records import Collection
from services.retriever.store.sqlite.followed import FollowedSqliteStore
from services.retriever.store.tombstones import TombstonesPurged
from services.retriever.view_search import search_views
from tests.opened_shards import Opened, opened
from tests.retriever_data import Log, definition, document, vectors, write
from tests.stores import OpenStore

SECOND = 10**9
WAIT_SECONDS = 60
IDS = [f"d{at:03}" for at in range(300)]
GONE = IDS[::3]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(open_store: OpenStore, clock: Clock) -> Iterator[Store]:
    it = open_store(Log(), clock=clock)
    yield it
    it.close()


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create_collection(definition("books", shards=1)).result()


def logged(
    store: Store, collection: Collection, after_seq: int = 0, purged_seq: int = 0
) -> list[int]:
    """The sequences of the log, as vectors and as words."""
    of = (collection.generation, 0, after_seq, purged_seq)
    seqs = [change.position.seq for change in store.changes(*of)]
    assert [change.seq for change in store.texts(*of)] == seqs
    return seqs


def test_tombstones_go_when_they_are_old_and_the_log_says_from_where_it_is_whole(
    store: Store, collection: Collection, clock: Clock
) -> None:
    write(store, collection, *(document(name) for name in "abcd"))
    store.delete_documents(collection.generation, ["a", "b"]).result()
    clock.now += 100 * SECOND
    store.delete_documents(collection.generation, ["c"]).result()
    assert store.purge_tombstones(200, 10).result() == 0
    assert logged(store, collection) == [4, 5, 6, 7]
    assert store.purge_tombstones(50, 1).result() == 1
    assert store.purge_tombstones(50, 10).result() == 1
    assert store.purge_tombstones(50, 10).result() == 0
    for after_seq in (0, 4, 5):
        with pytest.raises(TombstonesPurged):
            logged(store, collection, after_seq)
    assert logged(store, collection, 6) == [7]
    there = store.document_keys(collection.generation, 0)
    assert there.purged_seq == 6
    assert len(there.keys) == 2
    assert logged(store, collection, 0, there.purged_seq) == [4, 7]
    # Where nothing of the log is left too.
    clock.now += 100 * SECOND
    store.delete_documents(collection.generation, ["d"]).result()
    clock.now += 100 * SECOND
    assert store.purge_tombstones(50, 10).result() == 2
    with pytest.raises(TombstonesPurged):
        logged(store, collection, 6)
    assert logged(store, collection, 8) == []


def test_a_document_is_another_one_after_its_tombstone_went(
    store: Store, collection: Collection, clock: Clock
) -> None:
    write(store, collection, document("a"))
    before = store.document_keys(collection.generation, 0)
    store.delete_documents(collection.generation, ["a"]).result()
    clock.now += 100 * SECOND
    assert store.purge_tombstones(50, 10).result() == 1
    (receipt,) = write(store, collection, document("a"))
    assert (receipt.version, receipt.position.seq) == (1, 3)
    after = store.document_keys(collection.generation, 0)
    assert not set(before.keys.tolist()) & set(after.keys.tolist())
    (deletion,) = store.delete_documents(collection.generation, ["b"]).result()
    assert not deletion.existed
    assert store.collection("default", "books").documents == 1


def test_tombstones_of_several_shards_go_each_from_its_log(
    store: Store, clock: Clock, collection: Collection
) -> None:
    many = store.create_collection(definition("many", shards=3)).result()
    write(store, many, *(document(name) for name in IDS[:30]))
    store.delete_documents(many.generation, IDS[:30]).result()
    clock.now += 100 * SECOND
    assert store.purge_tombstones(50, 100).result() == 30
    for shard, seq in enumerate(store.committed_seqs(many.generation)):
        assert store.document_keys(many.generation, shard).purged_seq == seq
    assert store.document_keys(collection.generation, 0).purged_seq == 0


def found_ids(it: Opened) -> set[int]:
    views = [shard.view for shard in it.books.shards]
    (found,) = search_views(views, vectors(1).astype(np.float32), 2 * len(IDS), True)
    return set(found.ids)


def passages_of(it: Opened, ids: Sequence[str]) -> set[int]:
    found: set[int] = set()
    for shard in it.books.shards:
        there = it.store.document_keys(shard.generation, shard.number)
        for change in it.store.changes(shard.generation, shard.number, 0, there.purged_seq):
            passages = it.store.passages(change.passage_ids.tolist(), with_text=False)
            found.update(key for key, passage in passages.items() if passage.document_id in ids)
    return found


def test_segments_from_before_the_deletions_show_none_of_what_is_gone(tmp_path: Path) -> None:
    segments, before = tmp_path / "segments", tmp_path / "before"
    with opened(tmp_path) as it:
        it.index(IDS, seed=0)
        it.seal()
        gone, kept = passages_of(it, GONE), passages_of(it, sorted(set(IDS) - set(GONE)))
        assert found_ids(it) == gone | kept
    copytree(segments, before)
    with opened(tmp_path) as it:
        it.delete(GONE)
        assert it.store.purge_tombstones(0, 1000).result() == len(GONE)
    rmtree(segments)
    before.rename(segments)
    with opened(tmp_path) as it:
        assert found_ids(it) == kept
        # They are not where builds find them either.
        it.index([f"more {name}" for name in IDS], seed=1)
        it.seal()
        assert not found_ids(it) & gone
        assert it.books.tombstones() == 0


def test_a_replica_that_is_behind_shows_none_of_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.replica.replay._STEP_CHANGES", 40)
    (tmp_path / "writer").mkdir()
    with opened(tmp_path / "writer") as it:
        it.index(IDS, seed=0)
        followed = FollowedSqliteStore(tmp_path / "writer" / "store.sqlite3")
        indexer = Indexer(max_writers=1, max_readers=1, max_waiting_bytes=2**20)
        catalog = Catalog(tmp_path / "segments", Sealer(build_threads=1), indexer, seal_vectors=50)
        replay = Replay(followed, catalog, lambda shard: True)
        replay.step()
        behind = catalog.get("default", "books").shards
        assert all(0 < shard.replayed_seq < shard.committed_seq for shard in behind)
        it.delete(GONE)
        it.store.purge_tombstones(0, 1000).result()
        while replay.behind:
            assert replay.step()
        (found,) = search_views(
            [shard.view for shard in behind], vectors(1).astype(np.float32), 2 * len(IDS), True
        )
        assert set(found.ids) == passages_of(it, IDS) != set()
        followed.close()


def test_words_from_before_the_deletions_have_none_of_what_is_gone(
    tmp_path: Path, store: Store, collection: Collection, clock: Clock
) -> None:
    def words(after: Sequence[int]) -> list[int]:
        """Opens the words, lets them catch up, and closes them; the documents that they have."""
        indexer = Indexer(max_writers=1, max_readers=1, max_waiting_bytes=2**20)
        (last,) = store.committed_seqs(collection.generation)
        shard = indexer.open(tmp_path / "words", collection.generation, 0, "en", last)
        assert shard.index.document_keys().tolist() == list(after)
        indexer.start(store)
        indexer.demand(shard, last)
        asyncio.run(shard.visible.wait(last, WAIT_SECONDS))
        indexer.close()
        found: list[int] = shard.index.document_keys().tolist()
        return found

    write(store, collection, *(document(name) for name in IDS[:10]))
    store.delete_documents(collection.generation, IDS[:2]).result()
    clock.now += 100 * SECOND
    # An index that is made of a log that is not whole has nothing to take out.
    assert store.purge_tombstones(50, 10).result() == 2
    before = store.document_keys(collection.generation, 0).keys.tolist()
    assert words(after=[]) == before
    store.delete_documents(collection.generation, IDS[2:5]).result()
    clock.now += 100 * SECOND
    store.purge_tombstones(50, 10).result()
    after = store.document_keys(collection.generation, 0).keys.tolist()
    assert len(after) == 5
    assert words(after=before) == after
    # Without a document that is left in the log.
    store.delete_documents(collection.generation, IDS[5:10]).result()
    clock.now += 100 * SECOND
    store.purge_tombstones(50, 10).result()
    assert words(after=after) == []
