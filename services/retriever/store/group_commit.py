"""Group commit: the one thread that writes, whatever database is behind it."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.retriever.store.records import Change
from sirdar.errors import Internal, ResourceExhausted, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

COMMIT_SECONDS = Histogram(
    "sirdar_retriever_commit_seconds",
    "One transaction of the store, its fsync included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
COMMIT_WRITES = Histogram(
    "sirdar_retriever_commit_writes",
    "Requests that one transaction committed together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
QUEUE_BYTES = Gauge("sirdar_retriever_write_queue_bytes", "Writes that wait for a commit.")
REFUSED = Counter("sirdar_retriever_writes_refused_total", "Writes refused as the queue was full.")

# Without a write for so long the connection's cache is emptied; the system has the pages too.
_REST_SECONDS = 2.0

R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Written(Generic[R]):
    """The answer of a job and what it changed."""

    value: R
    changes: tuple[Change, ...] = ()


ShardKey = tuple[int, int]
"""The key of a generation and the number of a shard."""


@dataclass(frozen=True, slots=True)
class Waiting(Generic[C]):
    """A job that is to be committed, and who waits for it. `locks`: the shards that it writes,
    for a database that others write too."""

    job: Callable[[C], Written[Any]]
    size_bytes: int
    locks: Callable[[C], Iterable[ShardKey]]
    future: Future[Any] = field(default_factory=Future)


def _no_locks(_: object) -> Iterable[ShardKey]:
    return ()


class GroupCommit(ABC, Generic[C]):
    """Commits the jobs that wait in one transaction.

    While one transaction is synced to the disk the next jobs gather, so that
    the price of an fsync is shared by whoever waits, and nobody waits for a
    timer.
    """

    def __init__(self, *, max_waiting_bytes: int, max_commit_bytes: int = 16 * 2**20) -> None:
        self._max_waiting_bytes = max_waiting_bytes
        self._max_commit_bytes = max_commit_bytes
        self._waiting: deque[Waiting[C]] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="store-commit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(
        self,
        job: Callable[[C], Written[R]],
        size_bytes: int,
        locks: Callable[[C], Iterable[ShardKey]] = _no_locks,
    ) -> Future[R]:
        """Queues a job; its future is done when it is committed and `on_commit` was called.

        Raises ResourceExhausted when too much waits already.
        """
        waiting = Waiting(job, size_bytes, locks)
        with self._changed:
            if self._closing:
                raise Unavailable("the store is closing; retry on another replica")
            # A job larger than the whole queue is let in alone.
            if self._waiting and self._waiting_bytes + size_bytes > self._max_waiting_bytes:
                REFUSED.inc()
                raise ResourceExhausted(
                    f"{self._waiting_bytes} bytes of writes wait already; send slower",
                    retry_after=timedelta(milliseconds=200),
                )
            self._waiting.append(waiting)
            self._waiting_bytes += size_bytes
            QUEUE_BYTES.set(self._waiting_bytes)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Commits what waits and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            running = [item for item in group if item.future.set_running_or_notify_cancel()]
            if running:
                with COMMIT_SECONDS.time():
                    self._commit_or_fail(running)

    def _next_group(self) -> list[Waiting[C]]:
        """What waits, up to a transaction's size; empty: closed."""
        if not self._wait(_REST_SECONDS):
            self._rest()
            self._wait(None)
        with self._changed:
            group: list[Waiting[C]] = []
            size = 0
            while self._waiting and (
                not group or size + self._waiting[0].size_bytes <= self._max_commit_bytes
            ):
                item = self._waiting.popleft()
                size += item.size_bytes
                group.append(item)
            self._waiting_bytes -= size
            QUEUE_BYTES.set(self._waiting_bytes)
            return group

    def _wait(self, seconds: float | None) -> bool:
        """Until there is something to do; answers whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting) or self._closing, seconds)

    @abstractmethod
    def _rest(self) -> None:
        """Nothing was written for some seconds."""

    @abstractmethod
    def _commit(self, group: Sequence[Waiting[C]]) -> None:
        """Runs the jobs in one transaction and tells each future; one that raises is undone and
        fails alone."""

    def _commit_or_fail(self, group: list[Waiting[C]]) -> None:
        """The thread outlives whatever happens: without it writes would wait for ever."""
        try:
            self._commit(group)
        except Exception as error:
            log.error("the writer failed on a group of writes", exc_info=error)
            fault = Internal(
                "the write failed; whether it was committed is not known: read before you repeat it"
            )
            fail((item, fault) for item in group if not item.future.done())


def fail(items: Iterable[tuple[Waiting[C], Exception]]) -> None:
    for item, error in items:
        item.future.set_exception(error)
