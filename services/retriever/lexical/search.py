"""Searching words: the candidates of all shards of a collection, those that are live."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock

import numpy as np
import structlog
import tantivy
from numpy.typing import NDArray
from prometheus_client import Histogram

from services.retriever.lexical.index import DOCUMENT, PASSAGE, SCHEMA, faults
from services.retriever.lexical.indexer import Indexer
from services.retriever.lexical.query import Words, query_of, read_words
from services.retriever.lexical.shard import LexicalShard
from services.retriever.search import best_of_documents
from services.retriever.shard import Shard, ShardView
from services.retriever.store.interface import Store
from services.retriever.store.records import Passage
from services.retriever.view_search import Found
from sirdar.errors import DataLoss, DeadlineExceeded, ResourceExhausted

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEARCH_SECONDS = Histogram(
    "sirdar_retriever_lexical_search_seconds",
    "Searching the words of one call, reading their passages included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)

# As a condition of the query, 10,000 documents cost 4 ms; testing what is found costs less where
# the filter leaves much.
_MAX_DOCUMENTS_IN_QUERY = 10_000
_MORE = 4
_ROUNDS = 4

DocumentsOf = Callable[[ShardView], NDArray[np.int64]]
"""The documents of a shard that a search may answer: their keys, ascending."""


@dataclass(frozen=True, slots=True)
class WordSearch:
    """`texts` has one item a query, empty where there is nothing to search; `deadline` is on
    time.monotonic(); `documents` None: all."""

    shards: tuple[Shard, ...]
    texts: tuple[str, ...]
    candidates: int
    # As in a SearchRequest.
    documents_with_text: int | None
    deadline: float | None
    documents: DocumentsOf | None = None
    # Answer without texts.
    ids_only: bool = False


@dataclass(frozen=True, slots=True)
class WordAnswer:
    """`found` has one item a query; `missing_shards` did not answer; `applied_seqs`: the last write
    that each shard surely showed."""

    found: tuple[Found, ...]
    passages: dict[int, Passage]
    pending_writes: int
    missing_shards: tuple[int, ...]
    applied_seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A shard under search; `documents` as in WordSearch."""

    lexical: LexicalShard
    searcher: tantivy.Searcher
    documents: NDArray[np.int64] | None


class _Parts:
    """The shards of one call that can be searched."""

    def __init__(self, indexer: Indexer, search: WordSearch) -> None:
        self.missing: list[int] = []
        self._indexer = indexer
        self._parts: list[_Part] = []
        for shard in search.shards:
            lexical = shard.lexical
            if lexical is None or not lexical.ready:
                self.missing.append(shard.number)
                continue
            try:
                searcher = indexer.readers.searcher(lexical.index)
            except (DataLoss, ValueError, OSError) as error:
                self._fail(lexical, error)
                continue
            if searcher is not None:
                documents = search.documents(shard.view) if search.documents else None
                self._parts.append(_Part(lexical, searcher, documents))

    def search(self, text: str, k: int) -> Found:
        """The k best passages of all shards, live or not; equal scores by passage id."""
        if not self._parts:
            return Found([], [])
        searchers = [part.searcher for part in self._parts]
        try:
            words = read_words(text, self._parts[0].lexical.index.analyzer, searchers)
        except ValueError:
            # One of them cannot be read; each is asked alone.
            words = None
        hits: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        for part in list(self._parts):
            try:
                with faults(part.lexical.index.path):
                    own = words or read_words(text, part.lexical.index.analyzer, [part.searcher])
                    hits.append(_search_part(part, own, k))
            except (DataLoss, ValueError, OSError) as error:
                self._parts.remove(part)
                self._fail(part.lexical, error)
        if not hits:
            return Found([], [])
        scores = np.concatenate([scores for scores, _ in hits])
        ids = np.concatenate([ids for _, ids in hits])
        order = np.lexsort((ids, -scores))[:k]
        return Found(scores[order].tolist(), ids[order].tolist())

    def _fail(self, lexical: LexicalShard, error: Exception) -> None:
        log.warning(
            "words could not be searched", folder=str(lexical.index.path), error=repr(error)
        )
        self.missing.append(lexical.number)
        self._indexer.damaged(lexical)


class LexicalSearcher:
    def __init__(self, store: Store, indexer: Indexer, *, threads: int, max_waiting: int) -> None:
        self._store = store
        self._indexer = indexer
        self._max_waiting = max_waiting
        self._waiting = 0
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(threads, "lexical-search")

    def submit(self, search: WordSearch) -> Future[WordAnswer]:
        """Raises ResourceExhausted when too many searches wait."""
        with self._lock:
            if self._waiting >= self._max_waiting:
                raise ResourceExhausted(
                    f"{self._max_waiting} lexical searches wait already; retry later",
                    retry_after=timedelta(milliseconds=100),
                )
            self._waiting += 1
        future = self._pool.submit(self._run, search)
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        self._pool.shutdown()

    def _done(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1

    def _run(self, search: WordSearch) -> WordAnswer:
        if search.deadline is not None and search.deadline <= time.monotonic():
            raise DeadlineExceeded("the deadline passed before the search began")
        with SEARCH_SECONDS.time():
            return self._search(search)

    def _search(self, search: WordSearch) -> WordAnswer:
        # Before the readers are taken: those may show more, and never less.
        applied = tuple(map(_applied_seq, search.shards))
        parts = _Parts(self._indexer, search)
        passages: dict[int, Passage] = {}
        found = [self._live(text, parts, search.candidates, passages) for text in search.texts]
        pending = sum(
            max(0, shard.lexical.committed_seq - seq)
            for shard, seq in zip(search.shards, applied, strict=True)
            if shard.lexical
        )
        wanted = {passage_id for item in found for passage_id in item.ids}
        with_text = 0 if search.ids_only else search.documents_with_text
        shown = self._with_text(found, passages, wanted, with_text)
        if len(shown) < len(wanted):
            found = [_those_of(item, shown) for item in found]
        return WordAnswer(tuple(found), shown, pending, tuple(parts.missing), applied)

    def _live(self, text: str, parts: _Parts, k: int, passages: dict[int, Passage]) -> Found:
        """The k best live passages; they are put into `passages`, without text.

        What was deleted or replaced may be in the index for a second more.
        """
        if not text:
            return Found([], [])
        wanted = k
        for _ in range(_ROUNDS):
            hits = parts.search(text, wanted)
            unknown = [passage_id for passage_id in hits.ids if passage_id not in passages]
            passages |= self._store.passages(unknown, with_text=False) if unknown else {}
            found = _those_of(hits, passages)
            if len(found.ids) >= k or len(hits.ids) < wanted:
                break
            wanted *= _MORE
        return Found(found.scores[:k], found.ids[:k])

    def _with_text(
        self,
        found: Sequence[Found],
        passages: dict[int, Passage],
        wanted: set[int],
        documents_with_text: int | None,
    ) -> dict[int, Passage]:
        """The passages that are answered, those with text that are to have it; a document that
        was replaced between the two reads has none."""
        best = wanted
        if documents_with_text is not None:
            best = {
                passage_id
                for item in found
                for passage_id in best_of_documents(item, passages, documents_with_text)
            }
        full = self._store.passages(list(best), with_text=True) if best else {}
        return {key: passages[key] for key in wanted if key not in best} | full


def _applied_seq(shard: Shard) -> int:
    """What its words and the filters on them show; 0: it has no lexical index."""
    seq = shard.view.applied_seq
    return min(seq, shard.lexical.visible.value) if shard.lexical else 0


def _search_part(
    part: _Part, words: Words, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores and passage ids of the k best of one shard."""
    query = query_of(words, part.searcher)
    if query is None or (part.documents is not None and len(part.documents) == 0):
        return np.empty(0), np.empty(0, np.int64)
    if part.documents is None:
        return _hits(part.searcher, query, k, None)
    if len(part.documents) <= _MAX_DOCUMENTS_IN_QUERY:
        among = tantivy.Query.term_set_query(SCHEMA, DOCUMENT, part.documents.tolist())
        must = tantivy.Occur.Must
        both = [(must, query), (must, tantivy.Query.const_score_query(among, 0.0))]
        return _hits(part.searcher, tantivy.Query.boolean_query(both), k, None)
    # A quarter more than are expected to meet the filter; words that go with it or against it
    # make it more or fewer.
    limit = math.ceil(1.25 * k * part.searcher.num_docs / len(part.documents)) + 16
    while True:
        limit = min(limit, max(1, part.searcher.num_docs))
        scores, ids = _hits(part.searcher, query, limit, part.documents)
        if len(ids) >= k or limit >= part.searcher.num_docs:
            return scores[:k], ids[:k]
        limit *= _MORE


def _hits(
    searcher: tantivy.Searcher,
    query: tantivy.Query,
    limit: int,
    documents: NDArray[np.int64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores and passage ids, best first, of those of the best that are among the documents."""
    hits = searcher.search(query, limit, count=False).hits
    addresses = [address for _, address in hits]
    scores = np.array([score for score, _ in hits], np.float64)
    ids = np.array(searcher.fast_field_values(PASSAGE, addresses), np.int64)
    if documents is not None and len(hits):
        keys = np.array(searcher.fast_field_values(DOCUMENT, addresses), np.int64)
        at = np.searchsorted(documents, keys)
        at[at == len(documents)] = 0
        kept = documents[at] == keys
        scores, ids = scores[kept], ids[kept]
    return scores, ids


def _those_of(found: Found, passages: dict[int, Passage]) -> Found:
    kept = [pair for pair in zip(found.scores, found.ids, strict=True) if pair[1] in passages]
    return Found([score for score, _ in kept], [passage_id for _, passage_id in kept])
