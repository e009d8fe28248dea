"""Group commit: the one thread that writes."""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.retriever.store.interface import OnCommit
from services.retriever.store.records import Change
from services.retriever.store.sqlite.connection import storage_error
from services.retriever.trim import trim_heap
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


@dataclass(frozen=True, slots=True)
class Written(Generic[R]):
    """The answer of a job and what it changed."""

    value: R
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Callable[[sqlite3.Connection], Written[Any]]
    size_bytes: int
    future: Future[Any] = field(default_factory=Future)


class CommitThread:
    """Commits the jobs that wait in one transaction, each behind a savepoint of its own.

    While one transaction is synced to the disk the next jobs gather, so that
    the price of an fsync is shared by whoever waits, and nobody waits for a
    timer. A job that raises is rolled back alone.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path,
        on_commit: OnCommit,
        *,
        max_waiting_bytes: int,
        max_commit_bytes: int = 16 * 2**20,
    ) -> None:
        self._connection = connection
        self._file = file
        self._on_commit = on_commit
        self._max_waiting_bytes = max_waiting_bytes
        self._max_commit_bytes = max_commit_bytes
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="store-commit", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[sqlite3.Connection], Written[R]], size_bytes: int) -> Future[R]:
        """Queues a job; its future is done when it is committed and applied.

        Raises ResourceExhausted when too much waits already.
        """
        waiting = _Waiting(job, size_bytes)
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

    def _next_group(self) -> list[_Waiting]:
        """What waits, up to a transaction's size; empty: closed."""
        if not self._wait(_REST_SECONDS):
            self._rest()
            self._wait(None)
        with self._changed:
            group: list[_Waiting] = []
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

    def _rest(self) -> None:
        """Gives back the memory that the last writes took."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA shrink_memory")
        trim_heap()

    def _commit_or_fail(self, group: list[_Waiting]) -> None:
        """The thread outlives whatever happens: without it writes would wait for ever."""
        try:
            self._commit(group)
        except Exception as error:
            log.error("the writer failed on a group of writes", exc_info=error)
            fault = Internal(
                "the write failed; whether it was committed is not known: read before you repeat it"
            )
            _fail((item, fault) for item in group if not item.future.done())

    def _roll_back(self) -> None:
        """What cannot be rolled back now, on a full disk, is before the next transaction."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _commit(self, group: list[_Waiting]) -> None:
        done: list[tuple[_Waiting, Written[Any]]] = []
        failed: list[tuple[_Waiting, Exception]] = []
        self._roll_back()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for item in group:
                outcome = self._run_job(item)
                if isinstance(outcome, Written):
                    done.append((item, outcome))
                else:
                    failed.append((item, outcome))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            fault = storage_error(error, self._file)
            _fail((item, fault) for item in group)
            return
        COMMIT_WRITES.observe(len(done))
        changes = [change for _, written in done for change in written.changes]
        if changes:
            self._on_commit(changes)
        for item, written in done:
            item.future.set_result(written.value)
        _fail(failed)

    def _run_job(self, item: _Waiting) -> Written[Any] | Exception:
        """Raises sqlite3.Error only where the whole transaction is lost."""
        self._connection.execute("SAVEPOINT job")
        try:
            written = item.job(self._connection)
        except sqlite3.Error as error:
            fault = storage_error(error, self._file)
            if isinstance(fault, ResourceExhausted) or not self._connection.in_transaction:
                raise
            self._undo()
            return fault
        except Exception as error:  # noqa: BLE001 - raised again to the job's caller
            self._undo()
            return error
        self._connection.execute("RELEASE job")
        return written

    def _undo(self) -> None:
        self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")


def _fail(items: Iterable[tuple[_Waiting, Exception]]) -> None:
    for item, error in items:
        item.future.set_exception(error)
