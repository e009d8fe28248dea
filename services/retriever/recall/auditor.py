"""Searches some of the live queries again exactly, and tells what recall they had."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Event, Thread
from typing import Protocol

import faiss
import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from services.retriever.filters import conditions
from services.retriever.recall.budget import Clock, CpuBudget
from services.retriever.recall.exact import ExactSearch
from services.retriever.recall.sampler import Sampler
from services.retriever.recall.window import Estimate, RecallWindow
from services.retriever.shard import ShardView

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LABELS = ("tenant", "collection", "index_kind", "k")
RECALL = Gauge("sirdar_retriever_recall", "Mean recall@k of sampled live queries.", _LABELS)
RECALL_LOW = Gauge(
    "sirdar_retriever_recall_low", "Lower end of the 99.9 % confidence interval.", _LABELS
)
RECALL_HIGH = Gauge(
    "sirdar_retriever_recall_high", "Upper end of the 99.9 % confidence interval.", _LABELS
)
SAMPLES = Counter(
    "sirdar_retriever_recall_samples_total", "Live queries that were searched again.", _LABELS
)
DROPPED = Counter(
    "sirdar_retriever_recall_samples_dropped_total",
    "Sampled queries that were not searched again: too many waited, or for too long.",
    ("reason",),
)
for _reason in ("failed", "too late", "too many"):
    DROPPED.labels(_reason)
CPU_SECONDS = Counter(
    "sirdar_retriever_recall_cpu_seconds_total", "CPU time of searching again and around it."
)

STANDARD_K = 10
"""Recall is measured at this k, and where a query asks for less at what it asks for."""

_CPU_SHARE = 0.01
_SAVED_SECONDS = 10.0
_MAX_WAITING = 16
# A sample holds its view, and the view the growing segments of then.
_MAX_WAIT_SECONDS = 10.0
_MAX_SEARCH_SECONDS = 300.0
_ADJUST_SECONDS = 2.0
# Samples are asked for below what the budget allows, so that they seldom wait.
_TARGET = 0.8
_SMOOTHING = 0.3
_FIRST_COST_SECONDS = 0.001
_STEP_SECONDS = 0.005
_PAUSE_SECONDS = 0.05


class _Answer(Protocol):
    """Scores and passage ids, best first."""

    @property
    def scores(self) -> list[float]: ...
    @property
    def ids(self) -> list[int]: ...


@dataclass(slots=True)
class _Tracked:
    """A collection whose queries are sampled."""

    labels: tuple[str, str, str]
    sampler: Sampler = field(default_factory=Sampler)
    windows: dict[int, RecallWindow] = field(default_factory=dict)
    cost_seconds: float = _FIRST_COST_SECONDS
    queries_a_second: float = 0.0
    seen_before: int = 0
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class _Sample:
    tracked: _Tracked
    search: ExactSearch
    scores: NDArray[np.float32]
    ids: NDArray[np.int64]
    taken: float


@dataclass(frozen=True, slots=True)
class CollectionRecall:
    namespace: str
    collection: str
    index_kind: str
    k: int
    estimate: Estimate


class Auditor:
    """A thread that may take 1 % of the CPUs.

    It is not niced: between FAISS's calls it holds the interpreter's lock, and
    were it put off meanwhile every search would wait for it. Its steps are
    short instead.
    """

    def __init__(self, *, cpus: int, wall: Clock = time.monotonic) -> None:
        self._rate = _CPU_SHARE * cpus
        self._wall = wall
        self._tracked: dict[int, _Tracked] = {}
        self._waiting: deque[_Sample] = deque()
        self._changed = Condition()
        self._closing = Event()
        self._adjusted = wall()
        self._thread = Thread(target=self._run, name="recall", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What waits is dropped."""
        self._closing.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def track(self, generation_key: int, namespace: str, collection: str, index_kind: str) -> None:
        """From now on queries to the generation are sampled."""
        self._tracked = self._tracked | {
            generation_key: _Tracked((namespace, collection, index_kind))
        }

    def forget(self, generation_key: int) -> None:
        tracked = self._tracked.get(generation_key)
        if tracked is None:
            return
        self._tracked = {key: item for key, item in self._tracked.items() if item is not tracked}
        with self._changed:
            tracked.forgotten = True
            for k in tracked.windows:
                for metric in (RECALL, RECALL_LOW, RECALL_HIGH, SAMPLES):
                    metric.remove(*tracked.labels, str(k))

    def offer(
        self,
        generation_key: int,
        views: Sequence[ShardView],
        queries: NDArray[np.float32],
        k: int,
        answers: Sequence[_Answer],
        condition: conditions.Condition | None = None,
    ) -> None:
        """Queries, float32 of shape (n, dimensions), that `views` have just answered with their
        `k` best that meet `condition`, or what they found of them. Costs next to nothing unless
        one is sampled."""
        tracked = self._tracked.get(generation_key)
        if tracked is None:
            return
        for place in tracked.sampler.take(len(queries)):
            if len(self._waiting) >= _MAX_WAITING:
                DROPPED.labels("too many").inc()
                continue
            of_k = min(k, STANDARD_K)
            answer = answers[place]
            sample = _Sample(
                tracked,
                ExactSearch(views, queries[place : place + 1].copy(), of_k, condition),
                np.array(answer.scores[:of_k], np.float32),
                np.array(answer.ids[:of_k], np.int64),
                self._wall(),
            )
            with self._changed:
                self._waiting.append(sample)
                self._changed.notify()

    def estimates(self) -> list[CollectionRecall]:
        """Of every collection and k that has samples."""
        return [
            CollectionRecall(*tracked.labels, k, window.estimate())
            for tracked in self._tracked.values()
            for k, window in sorted(tracked.windows.copy().items())
        ]

    def _run(self) -> None:
        # So that the time of this thread is all that a search costs.
        faiss.omp_set_num_threads(1)
        budget = CpuBudget(self._rate, _SAVED_SECONDS, wall=self._wall)
        counted = 0.0
        while not self._closing.is_set():
            sample = self._next()
            try:
                if sample is not None:
                    self._search_again(sample, budget)
            except Exception:
                # Whatever it was, the search itself has been answered.
                DROPPED.labels("failed").inc()
                log.exception("a query could not be searched again")
            if self._wall() - self._adjusted >= _ADJUST_SECONDS:
                self._adjust()
            budget.delay_seconds(0)
            CPU_SECONDS.inc(budget.spent_seconds - counted)
            counted = budget.spent_seconds

    def _next(self) -> _Sample | None:
        """None: it is time to look around."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set(), _ADJUST_SECONDS)
            return self._waiting.popleft() if self._waiting else None

    def _search_again(self, sample: _Sample, budget: CpuBudget) -> None:
        search, tracked = sample.search, sample.tracked
        before = budget.spent_seconds
        until = sample.taken + _MAX_WAIT_SECONDS
        while not search.done:
            if tracked.forgotten or not self._afford(budget, until):
                return
            search.step()
            until = sample.taken + _MAX_SEARCH_SECONDS
        recall = search.recall(sample.scores, sample.ids)
        if recall is not None:
            self._record(tracked, search.k, recall)
        budget.delay_seconds(0)
        cost = budget.spent_seconds - before
        tracked.cost_seconds += _SMOOTHING * (cost - tracked.cost_seconds)

    def _afford(self, budget: CpuBudget, until: float) -> bool:
        """Waits until another step may be made; False: it would be too late, or is."""
        while not self._closing.is_set():
            delay = budget.delay_seconds(_STEP_SECONDS)
            if self._wall() + delay > until:
                DROPPED.labels("too late").inc()
                return False
            if delay == 0:
                return True
            # And a little more: waking up to find the time not yet there is paid for too.
            self._closing.wait(delay + _PAUSE_SECONDS)
        return False

    def _record(self, tracked: _Tracked, k: int, recall: float) -> None:
        with self._changed:
            if tracked.forgotten:
                return
            labels = (*tracked.labels, str(k))
            window = tracked.windows.get(k)
            if window is None:
                window = tracked.windows[k] = RecallWindow()
                for metric, value in _GAUGES:
                    metric.labels(*labels).set_function(partial(_read, window, value))
            window.add(recall)
            SAMPLES.labels(*labels).inc()

    def _adjust(self) -> None:
        """Shares the budget among the collections: none gets more than it has queries for,
        and what one leaves is for the others."""
        now = self._wall()
        seconds, self._adjusted = now - self._adjusted, now
        demands: list[tuple[float, _Tracked]] = []
        for tracked in self._tracked.values():
            seen = tracked.sampler.seen
            rate = (seen - tracked.seen_before) / seconds
            tracked.seen_before = seen
            tracked.queries_a_second += _SMOOTHING * (rate - tracked.queries_a_second)
            demands.append((tracked.queries_a_second * tracked.cost_seconds, tracked))
        left = _TARGET * self._rate
        for at, (demand, tracked) in enumerate(sorted(demands, key=lambda item: item[0])):
            given = min(demand, left / (len(demands) - at))
            left -= given
            tracked.sampler.adjust(given / demand if demand > given else 1.0)


def _read(window: RecallWindow, value: Callable[[Estimate], float]) -> float:
    return value(window.estimate())


_GAUGES: tuple[tuple[Gauge, Callable[[Estimate], float]], ...] = (
    (RECALL, lambda estimate: estimate.recall),
    (RECALL_LOW, lambda estimate: estimate.low),
    (RECALL_HIGH, lambda estimate: estimate.high),
)
