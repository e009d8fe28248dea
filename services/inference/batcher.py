"""The dynamic batcher: what waits together is computed together.

Callers put items into a queue. One task a stream of the engine seals a batch
out of the queue at the moment the stream is free, so nothing waits while the
engine idles, and a batch is as large as the load makes it. All state lives on
the event loop and changes only between awaits; the engine runs in threads.

Two classes share the engine: interactive work goes first, and bulk work gets
every eighth batch at least, so neither starves the other.
"""

import asyncio
import enum
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

import numpy as np
import structlog
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine
from services.inference.length_queue import Job, LengthQueue, Waiting
from services.inference.metrics import ClassMetrics
from sirdar.errors import DeadlineExceeded, Internal, ResourceExhausted, SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Interactive batches in a row before a bulk batch that waits gets its turn.
_INTERACTIVE_RUN = 7
# A caller's items enter the queue in slices of so many full batches: enough to keep
# every stream busy, and a large request leaves room in the queue for others.
_SLICE_BATCHES = 16


class Priority(enum.Enum):
    """INTERACTIVE: somebody waits for the answer. BULK: throughput counts."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, for each class."""

    items: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class BatchedRows:
    """What the engine made of a caller's items."""

    rows: NDArray[np.float32]
    """[items, dimensions], in the order of the items; of failed ones undefined."""
    failures: dict[int, SirdarError]
    """Why an item has no row, by its index."""


class _Lane:
    """The queue of one priority, and its metrics."""

    def __init__(self, model: str, priority: Priority) -> None:
        self.queue = LengthQueue()
        self.metrics = ClassMetrics(model, priority.value)
        # Asked for when Prometheus scrapes: free for the calls.
        self.metrics.queued_items.set_function(lambda: self.queue.items)
        self.metrics.queued_tokens.set_function(lambda: self.queue.tokens)


class Batcher:
    """Runs one model's engine for many callers; an async context manager.

    A worker that dies of a fault ends the `async with` block: the process
    restarts rather than leaving callers waiting.
    """

    def __init__(
        self, model: str, engine: Engine, *, pad_token_id: int, dimensions: int, limits: QueueLimits
    ) -> None:
        self._engine = engine
        self._pad_token_id = pad_token_id
        self._dimensions = dimensions
        self._limits = limits
        self._lanes = {priority: _Lane(model, priority) for priority in Priority}
        self._arrived = asyncio.Event()
        self._interactive_run = 0
        # Moving average over batches, of one stream.
        self._tokens_per_second = 0.0
        self._threads = ThreadPoolExecutor(engine.info.streams, thread_name_prefix="engine")
        self._workers = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Batcher":
        await self._workers.__aenter__()
        self._tasks = [
            self._workers.create_task(self._serve(stream), name=f"engine stream {stream}")
            for stream in range(self._engine.info.streams)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._workers.__aexit__(kind, error, traceback)
        self._threads.shutdown()

    async def run(
        self, items: Sequence[TokenizedItem], priority: Priority, deadline: float | None = None
    ) -> BatchedRows:
        """Computes the rows of items. `deadline` is in seconds on time.monotonic().

        Raises ResourceExhausted, at once, when the queue is full, and
        DeadlineExceeded when the time is up before all is computed. A request
        that was let in is not refused half way. Cancelling it takes what still
        waits out of the queue.
        """
        rows = np.empty((len(items), self._dimensions), np.float32)
        failures: dict[int, SirdarError] = {}
        for start, stop in self._slices(items):
            part = items[start:stop]
            if start == 0:
                self._admit(part, priority)
            job = await self._run_slice(part, rows[start:stop], priority, deadline)
            failures.update((start + index, error) for index, error in job.failures.items())
        return BatchedRows(rows, failures)

    def _slices(self, items: Sequence[TokenizedItem]) -> Iterator[tuple[int, int]]:
        budget = _SLICE_BATCHES * self._engine.info.batch_tokens
        start = tokens = 0
        for index, item in enumerate(items):
            tokens += item.tokens
            if tokens > budget and index > start:
                yield start, index
                start, tokens = index, item.tokens
        if start < len(items):
            yield start, len(items)

    def _admit(self, items: Sequence[TokenizedItem], priority: Priority) -> None:
        lane = self._lanes[priority]
        tokens = sum(item.tokens for item in items)
        if (
            lane.queue.items + len(items) <= self._limits.items
            and lane.queue.tokens + tokens <= self._limits.tokens
        ) or lane.queue.items == 0:
            return
        lane.metrics.shed.inc(len(items))
        speed = self._tokens_per_second * self._engine.info.streams
        seconds = lane.queue.tokens / speed if speed else 1.0
        raise ResourceExhausted(
            f"{lane.queue.items} items ({lane.queue.tokens} tokens) wait for the model already; "
            "retry later, send less at once, or add replicas",
            retry_after=timedelta(seconds=min(30.0, max(0.05, seconds))),
        )

    async def _run_slice(
        self,
        items: Sequence[TokenizedItem],
        rows: NDArray[np.float32],
        priority: Priority,
        deadline: float | None,
    ) -> Job:
        lane = self._lanes[priority]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(rows, done, deadline, pending=len(items))
        now = time.monotonic()
        lane.queue.push([Waiting(item, job, index, now) for index, item in enumerate(items)])
        self._arrived.set()
        try:
            await done
        except asyncio.CancelledError:
            lane.metrics.cancelled.inc(lane.queue.drop(job))
            raise
        return job

    async def _serve(self, stream: int) -> None:
        """Feeds one stream of the engine, for ever."""
        while True:
            lane, batch = self._seal()
            if batch:
                await self._compute(lane, batch, stream)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _seal(self) -> tuple[_Lane, list[Waiting]]:
        """The next batch, out of live items only; empty when nothing waits."""
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        while interactive.queue.items or bulk.queue.items:
            bulk_waits = bulk.queue.items > 0
            if interactive.queue.items and not (
                bulk_waits and self._interactive_run >= _INTERACTIVE_RUN
            ):
                lane = interactive
                self._interactive_run = self._interactive_run + 1 if bulk_waits else 0
            else:
                lane = bulk
                self._interactive_run = 0
            live = self._live(lane, lane.queue.seal(self._engine.info.batch_tokens))
            if live:
                return lane, live
        return interactive, []

    def _live(self, lane: _Lane, batch: list[Waiting]) -> list[Waiting]:
        """Those whose callers still have time; the jobs of the others end here."""
        now = time.monotonic()
        live = []
        for entry in batch:
            job = entry.job
            if job.done.done():  # cancelled, or its deadline passed an item earlier
                (lane.metrics.cancelled if job.done.cancelled() else lane.metrics.expired).inc()
                continue
            if job.deadline is not None and job.deadline <= now:
                lane.metrics.expired.inc(1 + lane.queue.drop(job))
                job.done.set_exception(
                    DeadlineExceeded(
                        "the deadline passed while the request waited for the model; "
                        "allow more time or send less at once"
                    )
                )
                continue
            lane.metrics.wait_seconds.observe(now - entry.since)
            live.append(entry)
        return live

    async def _compute(self, lane: _Lane, batch: list[Waiting], stream: int) -> None:
        """Runs a batch; one that fails is halved until the guilty items are alone."""
        items = [entry.item for entry in batch]
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            rows, finite = await loop.run_in_executor(
                self._threads, self._run_engine, items, stream
            )
        except Exception as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._compute(lane, batch[:half], stream)
                await self._compute(lane, batch[half:], stream)
                return
            log.error("the model failed on one item", tokens=items[0].tokens, exc_info=error)
            lane.metrics.failed.inc()
            batch[0].fail(Internal(f"the model failed: {error}", reason="MODEL_FAILED"))
            return
        self._count(lane, items, time.monotonic() - started)
        for entry, row, good in zip(batch, rows, finite, strict=True):
            if good:
                entry.answer(row)
            else:
                lane.metrics.failed.inc()
                entry.fail(
                    Internal("the model answered NaN or infinity", reason="MODEL_OUTPUT_NOT_FINITE")
                )

    def _run_engine(
        self, items: list[TokenizedItem], stream: int
    ) -> tuple[NDArray[np.float32], list[bool]]:
        """Rows, and of each whether all of it is finite; in a worker thread."""
        rows = self._engine.run(TokenBatch.pad(items, self._pad_token_id), stream)
        finite: list[bool] = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
        return rows, finite

    def _count(self, lane: _Lane, items: list[TokenizedItem], seconds: float) -> None:
        tokens = sum(item.tokens for item in items)
        padded = len(items) * max(item.tokens for item in items)
        lane.metrics.batch_rows.observe(len(items))
        lane.metrics.batch_seconds.observe(seconds)
        lane.metrics.items.inc(len(items))
        lane.metrics.tokens.inc(tokens)
        lane.metrics.padding.inc(padded - tokens)
        speed = tokens / max(seconds, 1e-6)
        self._tokens_per_second += 0.1 * (speed - self._tokens_per_second)
