"""Documents that are written again while the log is read in parts: a row moves to its end."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.retriever.catalog import Catalog
from services.retriever.lexical.index import LexicalIndex
from services.retriever.lexical.indexer import Indexer
from services.retriever.lexical.shard import LexicalShard
from services.retriever.replica.replay import Replay
from services.retriever.sealer import Sealer
from services.retriever.shard import Shard
from services.retriever.store.records import Collection, Generation, Head
from services.retriever.store.sqlite.followed import FollowedSqliteStore
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.view_search import search_views
from tests.retriever_data import Log, definition, document, vectors, write

PART = 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    it = SqliteStore(tmp_path / "store.sqlite3", Log(), max_waiting_bytes=2**20)
    yield it
    it.close()


@pytest.fixture
def books(store: SqliteStore) -> Collection:
    return store.create_collection(definition("books", shards=1)).result()


def shown(shard: Shard) -> set[int]:
    (found,) = search_views([shard.view], vectors(1).astype(np.float32), 100, True)
    return set(found.ids)


def passage_of(store: SqliteStore, generation: Generation, document_id: str) -> int:
    found = [
        int(change.passage_ids[0])
        for change in store.changes(generation, 0, 0)
        if store.passages(change.passage_ids.tolist(), with_text=False)[
            int(change.passage_ids[0])
        ].document_id
        == document_id
    ]
    return found[0]


def test_a_replica_does_not_claim_what_was_moved_out_of_the_part_that_it_read(
    tmp_path: Path, store: SqliteStore, books: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.replica.replay._STEP_CHANGES", PART)
    followed = FollowedSqliteStore(tmp_path / "store.sqlite3")
    indexer = Indexer(max_writers=1, max_readers=1, max_waiting_bytes=2**20)
    catalog = Catalog(tmp_path / "segments", Sealer(build_threads=1), indexer, seal_vectors=100)
    replay = Replay(followed, catalog, lambda shard: True)
    replay.step()
    (shard,) = catalog.get("default", "books").shards
    acknowledged = write(store, books, *(document(name) for name in ("moved", "a", "b", "c")))
    seen = acknowledged[-1].position.seq
    heads = FollowedSqliteStore.heads

    def rewritten(self: FollowedSqliteStore) -> list[Head]:
        found = heads(self)
        write(store, books, document("moved", "written again"))
        monkeypatch.setattr(FollowedSqliteStore, "heads", heads)
        return found

    monkeypatch.setattr(FollowedSqliteStore, "heads", rewritten)
    for _ in range(4):
        replay.step()
        if shard.applied.value >= seen:
            assert passage_of(store, books.generation, "moved") in shown(shard)
        assert shard.view.applied_seq == shard.applied.value
    assert shard.applied.value == seen + 1
    assert not replay.behind
    followed.close()


def test_words_are_not_called_visible_that_were_moved_out_of_the_part_that_was_read(
    tmp_path: Path, store: SqliteStore, books: Collection
) -> None:
    index = LexicalIndex(tmp_path / "words", books.generation.key, 0, "en")
    shard = LexicalShard(index, books.generation, 0)
    acknowledged = write(store, books, *(document(name) for name in ("moved", "a", "b", "c")))
    seen = acknowledged[-1].position.seq
    shard.restore(seen)
    shard.demand(seen)
    write(store, books, document("moved", "written again"))
    index.open_writer()
    parts = []
    while not shard.visible.value:
        taken = shard.take(store, PART)
        parts.append([change.seq for change in taken.changes])
        shard.write(taken)
        shard.commit()
        shard.show()
    assert parts == [[2, 3, 4], [5]]
    # Progress is told as it is made, and what a failure takes is read again from there.
    assert shard.visible_seq == shard.visible.value == seen + 1
    index.close_writer(merge=False)


def test_what_a_failure_takes_of_the_words_is_not_called_visible(
    tmp_path: Path, store: SqliteStore, books: Collection
) -> None:
    index = LexicalIndex(tmp_path / "words", books.generation.key, 0, "en")
    shard = LexicalShard(index, books.generation, 0)
    last = write(store, books, *(document(f"d{at}") for at in range(2 * PART)))[-1].position.seq
    shard.restore(last)
    index.open_writer()
    shard.write(shard.take(store, 100))
    shard.again()
    index.open_writer()
    shard.write(shard.take(store, PART))
    shard.commit()
    shard.show()
    assert (shard.visible_seq, shard.visible.value) == (PART, 0)
    assert np.isinf(shard.commit_at)
    index.close_writer(merge=False)
