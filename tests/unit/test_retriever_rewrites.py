"""Searches beside writes of the documents that they find."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.retriever.search import Searcher, SearchRequest
from services.retriever.store.records import Passage
from tests.opened_shards import Opened, opened
from tests.retriever_data import document, write

IDS = [f"d{at}" for at in range(40)]


def search(it: Opened, k: int, documents_with_text: int | None) -> list[Passage]:
    """The passages of one search, best first, of d0's first vector."""
    searcher = Searcher(it.store, threads=1, faiss_threads=1, max_waiting=10)
    query = it.index(["d0"], seed=0)[:1].astype(np.float32)
    request = SearchRequest(it.books.shards, query, k, True, documents_with_text, None)
    try:
        answer = searcher.submit(request).result()
    finally:
        searcher.close()
    return [answer.passages[passage_id] for passage_id in answer.found[0].ids]


def before_read(it: Opened, number: int, change: Callable[[], None]) -> None:
    """Changes something just before a search reads passages for the `number`th time."""
    read, calls = it.store.passages, 0

    def passages(passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
        nonlocal calls
        calls += 1
        if calls == number:
            change()
        return read(passage_ids, with_text)

    it.store.passages = passages  # type: ignore[method-assign]


@pytest.mark.parametrize("reads_before", [1, 2])
def test_documents_that_are_written_while_they_are_found_are_found(
    tmp_path: Path, reads_before: int
) -> None:
    with opened(tmp_path) as it:
        rows = it.index(IDS, seed=0)

        def rewrite_all() -> None:
            again = [
                document(IDS[at], passages=2, vectors=rows[2 * at : 2 * at + 2])
                for at in range(len(IDS))
            ]
            write(it.store, it.collection, *again)

        before_read(it, reads_before, rewrite_all)
        found = search(it, 2 * len(IDS), documents_with_text=3)
        assert {passage.document_id for passage in found} == set(IDS)
        assert len(found) == 2 * len(IDS)
        first = list(dict.fromkeys(passage.document_id for passage in found))[:3]
        with_text = [passage.document_id for passage in found if passage.text]
        assert with_text == first


def test_documents_that_are_deleted_while_they_are_found_leave_their_places_to_others(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as it:
        it.index(IDS, seed=0)
        best = [passage.document_id for passage in search(it, 4, None)]
        before_read(it, 1, lambda: it.delete([best[0]]))
        found = search(it, 4, None)
        assert len(found) == 4
        assert best[0] not in [passage.document_id for passage in found]


@pytest.mark.parametrize("documents_with_text", [None, 0, 3])
def test_documents_that_are_written_again_and_again_are_found(
    tmp_path: Path, documents_with_text: int | None
) -> None:
    with opened(tmp_path) as it:
        rows = it.index(IDS, seed=0)
        read, written = it.store.passages, 0

        def passages(passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
            nonlocal written
            at = written % len(IDS)
            again = document(IDS[at], passages=2, vectors=rows[2 * at : 2 * at + 2])
            write(it.store, it.collection, again)
            written += 1
            return read(passage_ids, with_text)

        it.store.passages = passages  # type: ignore[method-assign]
        found = search(it, 2 * len(IDS), documents_with_text)
        assert written >= 4
        # All of them, each of one version.
        assert sorted((item.document_id, item.position) for item in found) == sorted(
            (name, position) for name in IDS for position in range(2)
        )
        found = search(it, 3, documents_with_text)
        assert len(found) == 3
