"""Searching: queries that wait together are searched together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Thread

import faiss
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Histogram

from services.retriever.filters.conditions import Condition
from services.retriever.looks import Look, together
from services.retriever.recall.auditor import Auditor
from services.retriever.shard import Shard, ShardView
from services.retriever.store.interface import Store
from services.retriever.store.records import Passage
from services.retriever.view_search import Found, search_views
from sirdar.errors import DeadlineExceeded, ResourceExhausted, Unavailable

SEARCH_SECONDS = Histogram(
    "sirdar_retriever_search_seconds",
    "Searching a batch of queries, reading their passages included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
BATCH_QUERIES = Histogram(
    "sirdar_retriever_search_batch_queries",
    "Queries that were searched together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
DROPPED = Counter(
    "sirdar_retriever_searches_dropped_total", "Searches whose deadline passed while they waited."
)

_MAX_BATCH_QUERIES = 256
# Before another look at views that do not have yet what the store has.
_PAUSES_SECONDS = (0.0, 0.002, 0.01)
# So many times as many as the last time are searched beyond those that were asked for.
_MORE = 4


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """`queries` is float32 of shape (n, dimensions); `deadline` is on time.monotonic()."""

    shards: tuple[Shard, ...]
    queries: NDArray[np.float32]
    candidates: int
    exact: bool
    # The text of so many documents' best passages is read; None: of every passage.
    documents_with_text: int | None
    deadline: float | None
    # Answer without passages.
    ids_only: bool = False
    # Only passages of documents that meet it.
    condition: Condition | None = None

    def may_join(self, other: "SearchRequest") -> bool:
        return (
            self.shards == other.shards
            and self.candidates == other.candidates
            and self.exact == other.exact
            and self.documents_with_text == other.documents_with_text
            and self.ids_only == other.ids_only
            and self.condition == other.condition
        )


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """`found` has one item a query; passages that are gone meanwhile are in neither. There are
    no `passages` where only ids were asked for, and then those that are gone may be found.

    `pending_writes`: committed writes that the searched views did not have; `applied_seqs`: the
    last write that the view of each shard had.
    """

    found: tuple[Found, ...]
    passages: dict[int, Passage]
    pending_writes: int
    applied_seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: SearchRequest
    future: Future[SearchAnswer] = field(default_factory=Future)


class Searcher:
    """Threads that search. When one is free it takes all waiting requests that may join the
    first; when one is idle nothing waits."""

    def __init__(
        self,
        store: Store,
        *,
        threads: int,
        faiss_threads: int,
        max_waiting: int,
        auditor: Auditor | None = None,
        catch_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`auditor` is shown what approximate searches answered; `catch_up` is called when the
        store has a write that the views have not."""
        self._store = store
        self._catch_up = catch_up
        self._auditor = auditor
        self._faiss_threads = faiss_threads
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            Thread(target=self._run, name=f"search-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: SearchRequest) -> Future[SearchAnswer]:
        """Raises ResourceExhausted when too many searches wait."""
        waiting = _Waiting(request)
        with self._changed:
            if self._closing:
                raise Unavailable("the retriever is closing; retry on another replica")
            if len(self._waiting) >= self._max_waiting:
                raise ResourceExhausted(
                    f"{self._max_waiting} searches wait already; retry later",
                    retry_after=timedelta(milliseconds=100),
                )
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Answers what waits, then ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        # libgomp keeps the number a thread; its default is the host's, not the cgroup's.
        faiss.omp_set_num_threads(self._faiss_threads)
        while batch := self._next_batch():
            try:
                with SEARCH_SECONDS.time():
                    answers = self._search([item.request for item in batch])
            except Exception as error:  # noqa: BLE001 - raised again to the callers
                for item in batch:
                    item.future.set_exception(error)
            else:
                for item, answer in zip(batch, answers, strict=True):
                    item.future.set_result(answer)

    def _next_batch(self) -> list[_Waiting]:
        """Requests to search together; empty: closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return []
                batch = self._take()
                if batch:
                    return batch

    def _take(self) -> list[_Waiting]:
        now = time.monotonic()
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        queries = 0
        while self._waiting:
            item = self._waiting.popleft()
            size = len(item.request.queries)
            if batch and (
                queries + size > _MAX_BATCH_QUERIES or not item.request.may_join(batch[0].request)
            ):
                left.append(item)
            elif not item.future.set_running_or_notify_cancel():
                continue
            elif item.request.deadline is not None and item.request.deadline <= now:
                DROPPED.inc()
                item.future.set_exception(
                    DeadlineExceeded("the deadline passed before the search began")
                )
            else:
                batch.append(item)
                queries += size
        self._waiting = left
        if left:
            self._changed.notify()
        if batch:
            BATCH_QUERIES.observe(queries)
        return batch

    def _search(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        first = requests[0]
        queries = (
            first.queries
            if len(requests) == 1
            else np.concatenate([request.queries for request in requests])
        )
        together = self._find(first, queries)
        answers: list[SearchAnswer] = []
        at = 0
        for request in requests:
            end = at + len(request.queries)
            answers.append(replace(together, found=together.found[at:end]))
            at = end
        return answers

    def _find(self, request: SearchRequest, queries: NDArray[np.float32]) -> SearchAnswer:
        """What is found and there for all of the queries.

        The store has a write a moment before the views do. What is found of a
        document as it was before is gone from the store then: it is searched
        again, for as many more as were gone, until the views have the write.
        What is expired is in the views until it is swept, which nobody waits
        for: it is searched again only where it has taken the places of others.
        What is written again at each look is answered as an earlier look had it.
        """
        more = 0
        looks: list[Look] = []
        for pause_seconds in (*_PAUSES_SECONDS, None):
            views = [shard.view for shard in request.shards]
            wanted = request.candidates + more
            found = search_views(views, queries, wanted, request.exact, request.condition)
            if more == 0:
                self._audit(request, views, queries, found)
            pending = sum(
                max(0, shard.committed_seq - view.applied_seq)
                for shard, view in zip(request.shards, views, strict=True)
            )
            shown, passages = self._shown(found, request)
            looks.append(Look(shown, passages))
            pairs = zip(found, shown, strict=True)
            gone = max((len(all_.ids) - len(there.ids) for all_, there in pairs), default=0)
            if not gone or pause_seconds is None:
                break
            if more and self._store.has_expired() and not _short(found, shown, request, wanted):
                break
            more = max(gone, _MORE * more)
            self._catch_up()
            time.sleep(pause_seconds)
        if gone:
            shown, passages = together(looks)
        return SearchAnswer(
            tuple(_first(item, request.candidates) for item in shown),
            passages,
            pending,
            tuple(view.applied_seq for view in views),
        )

    def _audit(
        self,
        request: SearchRequest,
        views: Sequence[ShardView],
        queries: NDArray[np.float32],
        found: Sequence[Found],
    ) -> None:
        if self._auditor is not None and not request.exact and request.shards:
            key = request.shards[0].generation.key
            self._auditor.offer(key, views, queries, request.candidates, found, request.condition)

    def _shown(
        self, found: list[Found], request: SearchRequest
    ) -> tuple[list[Found], dict[int, Passage]]:
        """What is found and there, with its passages where they were asked for."""
        # What is expired is in the views until it is swept.
        if request.ids_only and not self._store.has_expired():
            return found, {}
        documents_with_text = 0 if request.ids_only else request.documents_with_text
        wanted = {passage_id for item in found for passage_id in item.ids}
        passages = self._read(found, wanted, documents_with_text)
        if len(passages) < len(wanted):
            found = [_still_there(item, passages) for item in found]
        return found, passages

    def _read(
        self, found: Sequence[Found], wanted: set[int], documents_with_text: int | None
    ) -> dict[int, Passage]:
        if not wanted:
            return {}
        if documents_with_text is None:
            return self._store.passages(list(wanted), with_text=True)
        passages = self._store.passages(list(wanted), with_text=False)
        best = {
            passage_id
            for item in found
            for passage_id in best_of_documents(item, passages, documents_with_text)
        }
        full = self._store.passages(list(best), with_text=True) if best else {}
        # A document that was replaced between the two reads has no answer with its text.
        bare = {key: value for key, value in passages.items() if key not in best}
        return bare | full


def best_of_documents(found: Found, passages: dict[int, Passage], documents: int) -> Iterator[int]:
    """The best passage of each of so many best documents."""
    seen: set[str] = set()
    for passage_id in found.ids:
        passage = passages.get(passage_id)
        if passage is None or passage.document_id in seen:
            continue
        if len(seen) == documents:
            return
        seen.add(passage.document_id)
        yield passage_id


def _first(found: Found, k: int) -> Found:
    return found if len(found.ids) <= k else Found(found.scores[:k], found.ids[:k])


def _short(
    found: Sequence[Found], shown: Sequence[Found], request: SearchRequest, wanted: int
) -> bool:
    """Whether a query has fewer than it asked for, and there may be more."""
    return any(
        len(there.ids) < request.candidates and len(all_.ids) == wanted
        for all_, there in zip(found, shown, strict=True)
    )


def _still_there(found: Found, passages: dict[int, Passage]) -> Found:
    """Without passages whose document was replaced between the search and the read."""
    kept = [pair for pair in zip(found.scores, found.ids, strict=True) if pair[1] in passages]
    return Found([score for score, _ in kept], [passage_id for _, passage_id in kept])
