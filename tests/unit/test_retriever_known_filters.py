"""Filters that are asked again: answered from what is known, for as long as nothing changed."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.retriever import sealed, sealed_rows
from services.retriever.filters.columns import Columns
from services.retriever.filters.conditions import Bound, Condition, Range
from services.retriever.filters.known import KnownFilters
from services.retriever.metadata import stored
from services.retriever.store.records import CollectionUpdate, FieldSchema, FieldType
from services.retriever.view_search import search_views
from sirdar.v1.document_pb2 import MetadataValue
from tests.opened_shards import Opened, opened
from tests.retriever_data import document, vectors, write

RANK = FieldSchema("rank", FieldType.INTEGER)
ROWS = 5000
QUERIES = vectors(8, seed=9).astype(np.float32)


def below(rank: int) -> Condition:
    return Range(RANK, None, Bound(rank, inclusive=False))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Sealed; a document's rank is its place along the first component."""
    with opened(tmp_path_factory.mktemp("ranked")) as it:
        changed = it.store.update_collection(
            "default", "books", CollectionUpdate(schema=(RANK,))
        ).result()
        it.catalog.update(changed, it.store)
        rows = vectors(ROWS, seed=1)
        ranks = np.argsort(np.argsort(rows[:, 0].astype(np.float32))).tolist()
        for start in range(0, ROWS, 500):
            batch = [
                document(
                    f"d{at}",
                    vectors=rows[at : at + 1],
                    metadata=stored({"rank": MetadataValue(int64_value=ranks[at])}, ""),
                )
                for at in range(start, start + 500)
            ]
            write(it.store, it.collection, *batch)
        it.seal()
        yield it


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("together", [1, 8])
def test_asked_again_a_filter_gets_the_same_answer(
    ranked: Opened, share: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By walks, by cells and by scans."""
    monkeypatch.setattr(sealed, "_ROWS_PER_EF", 4)
    monkeypatch.setattr(sealed, "_SCANNED_ROWS", 100)
    monkeypatch.setattr(sealed_rows, "_COMPARED_ROWS", 200)
    monkeypatch.setattr(sealed_rows, "_COMPARED_PER_CANDIDATE", 8)
    views = [shard.view for shard in ranked.books.shards]
    condition = below(int(share * ROWS))
    for start in range(0, len(QUERIES), together):
        queries = QUERIES[start : start + together]
        first = search_views(views, queries, 10, False, condition)
        for _ in range(2):
            assert search_views(views, queries, 10, False, condition) == first


def test_a_write_is_seen_by_a_filter_that_was_asked_before(ranked: Opened) -> None:
    condition = below(ROWS)
    for _ in range(2):
        (found,) = search_views(
            [shard.view for shard in ranked.books.shards], QUERIES[:1], 5, False, condition
        )
    best = ranked.store.passages(found.ids[:1], with_text=False)[found.ids[0]].document_id
    ranked.delete([best])
    (after,) = search_views(
        [shard.view for shard in ranked.books.shards], QUERIES[:1], 4, False, condition
    )
    assert after.ids == found.ids[1:]


def test_a_filter_is_met_once_for_as_long_as_it_is_asked() -> None:
    view = Columns((RANK,)).view()
    known = KnownFilters()
    often = known.allowed(below(0), view)
    for rank in range(1, 100):
        known.allowed(below(rank), view)
        assert known.allowed(below(0), view) is often
    before = known.allowed(below(99), view)
    for rank in range(100, 200):
        known.allowed(below(rank), view)
    assert known.allowed(below(99), view) is not before
