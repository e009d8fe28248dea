"""The dynamic batcher: what waits together is computed together.

Callers are let in by what the queue and the cost model predict
(admission.py) and put tokenized items into the lane of their priority
(lane.py, length_queue.py). One task a stream of the engine seals a batch at the
moment the stream is free, so nothing waits while the engine idles, and a batch
is as large as the load and its time budget make it. All state lives on the
event loop and changes only between awaits; the engine runs in threads.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType

import numpy as np
import structlog

from services.inference.admission import Admission, QueueLimits, admit
from services.inference.batch import TokenizedItem
from services.inference.batch_budget import BatchBudget
from services.inference.cost import CostModel
from services.inference.engine import Engine, EngineOutOfMemory
from services.inference.engine_threads import ComputedBatch, EngineThreads
from services.inference.lane import Lane
from services.inference.length_queue import Closed
from services.inference.metrics import OUT_OF_MEMORY, STREAMS
from services.inference.work import BatchedRows, Job, Priority, Waiting, Work
from sirdar.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable

__all__ = ["BatchedRows", "Batcher", "Priority", "QueueLimits", "Work"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Interactive batches in a row before a bulk batch that waits gets its turn.
_INTERACTIVE_RUN = 7
# Bulk batches are kept small for so long after the last interactive request.
_INTERACTIVE_MEMORY_SECONDS = 2.0
# A job is sure to be late when so much of its predicted time does not fit.
_SURE = 0.8


class Batcher:
    """Runs one model's engine for many callers; an async context manager."""

    def __init__(
        self,
        model: str,
        engine: Engine,
        *,
        pad_token_id: int,
        dimensions: int,
        limits: QueueLimits,
        cost: CostModel,
    ) -> None:
        self._engine = engine
        self.dimensions = dimensions
        self._limits = limits
        self._cost = cost
        self._budget = BatchBudget(engine.info, cost)
        self._lanes = {priority: Lane(model, priority) for priority in Priority}
        self._arrived = asyncio.Event()
        self._interactive_run = 0
        self._interactive_at = -_INTERACTIVE_MEMORY_SECONDS
        self._closing = False
        # The last batch was made smaller, so that idle streams have a part.
        self._shared = False
        # By stream: the lane that it computes for, since when and until when probably.
        self._running: dict[int, tuple[Lane, float, float]] = {}
        self._threads = EngineThreads(engine, pad_token_id)
        self._tasks: list[asyncio.Task[None]] = []
        # The first and the last failure since a batch last succeeded.
        self._failing: tuple[float, float] | None = None
        self._out_of_memory = OUT_OF_MEMORY.labels(model)
        STREAMS.labels(model).set(engine.info.streams)
        for lane in self._lanes.values():
            lane.metrics.queued_seconds.set_function(partial(self._seconds, lane))

    async def __aenter__(self) -> "Batcher":
        self._tasks = [
            asyncio.create_task(self._serve(stream), name=f"engine stream {stream}")
            for stream in range(self._engine.info.streams)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._threads.shutdown()
        for lane in self._lanes.values():
            lane.abandon(_unloading())
            lane.metrics.release()

    async def close(self) -> None:
        """Lets nothing more in and returns when all that was let in is done."""
        self._closing = True
        # Asked again rather than told: once in a model's life, not with every batch.
        while self._running or any(lane.items or lane.waits for lane in self._lanes.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    @property
    def stuck_seconds(self) -> float:
        """For how long the engine has been at its oldest batch, or has failed at anything."""
        now = time.monotonic()
        oldest = max((now - started for _, started, _ in self._running.values()), default=0.0)
        first, last = self._failing or (0.0, 0.0)
        return max(oldest, last - first)

    def admit(self, items: int, tokens: int, work: Work) -> Admission:
        """Keeps a place for so many items, with about so many tokens together.

        Raises ResourceExhausted, at once, when the queue is full or the items
        would not be done by the deadline; Unavailable when the batcher closes.
        A request of any size is let into an empty queue.
        """
        if self._closing:
            raise _unloading()
        if work.priority is Priority.INTERACTIVE:
            self._interactive_at = time.monotonic()
        return admit(self, self._lanes[work.priority], self._limits, work, items, tokens)

    async def run(self, items: Sequence[TokenizedItem], work: Work) -> BatchedRows:
        """Computes the rows of items that are tokenized already.

        Raises as `admit` and `Admission.run` do.
        """
        with self.admit(len(items), sum(item.tokens for item in items), work) as admission:
            result = await admission.run(items[: admission.items])
        late = range(admission.items, len(items))
        if not late:
            return result
        rows = np.empty((len(items), self.dimensions), np.float32)
        rows[: admission.items] = result.rows
        return BatchedRows(rows, result.failures, result.dropped | frozenset(late))

    def predicted_seconds(self, lane: Lane, caller: str, items: int, tokens: int) -> float:
        """How long until so many more items of a caller are done, by the cost model."""
        ahead_items, ahead_tokens = lane.ahead(caller, tokens)
        queued = self._cost.work_seconds(
            ahead_items + items, ahead_tokens + tokens, self._budget.full_seconds
        )
        if lane.priority is Priority.BULK:
            queued += self._seconds(self._lanes[Priority.INTERACTIVE])
        streams = self._engine.info.streams
        now = time.monotonic()
        running = sum(max(0.0, until - now) for _, _, until in self._running.values())
        longest = self._cost.seconds(1, tokens // items) if items else 0.0
        return running / streams + max(queued / streams, longest)

    async def run_admitted(
        self, lane: Lane, items: Sequence[TokenizedItem], work: Work
    ) -> BatchedRows:
        """What an admission runs."""
        rows = np.empty((len(items), self.dimensions), np.float32)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(work, rows, done, pending=len(items))
        entries = [Waiting(item, job, at) for at, item in enumerate(items) if item.tokens]
        if len(entries) < len(items):
            # No batch is as narrow as nothing.
            empty = [at for at, item in enumerate(items) if not item.tokens]
            job.failures.update((at, _no_tokens()) for at in empty)
            job.settle(len(empty))
        if entries:
            lane.queue.push(entries)
            self._arrived.set()
            try:
                await done
            except asyncio.CancelledError:
                lane.metrics.cancelled.inc(len(lane.queue.drop(job)))
                lane.metrics.wasted_tokens.inc(job.computed_tokens)
                raise
        return BatchedRows(rows, job.failures, frozenset(job.dropped))

    def _seconds(self, lane: Lane) -> float:
        """What waits in a lane, on one stream."""
        return self._cost.work_seconds(lane.items, lane.tokens, self._budget.full_seconds)

    async def _serve(self, stream: int) -> None:
        """Feeds one stream of the engine, for ever."""
        while True:
            if (seconds := self._held_back_seconds()) > 0:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._arrived.wait()
                continue
            try:
                lane, batch = self._seal()
            except Exception as error:
                log.error("the batcher failed on its queue", exc_info=error)
                for broken in self._lanes.values():
                    broken.abandon(Internal("the batcher failed on its queue"))
                continue
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            try:
                await self._compute(lane, batch, stream)
            except asyncio.CancelledError:
                for entry in batch:
                    entry.job.fail(_unloading())
                raise
            except Exception as error:
                log.error("the batcher failed on a batch", exc_info=error)
                for entry in batch:
                    entry.job.fail(Internal("the batcher failed on the batch of this request"))
            finally:
                self._running.pop(stream, None)
                # What was held back may go.
                self._arrived.set()

    def _held_back_seconds(self) -> float:
        """How long what waits is better left to a stream that computes already."""
        if not self._running or self._shared:
            return 0.0
        little = self._budget.little_seconds
        waiting = sum(self._seconds(lane) for lane in self._lanes.values())
        if not 0 < waiting < little:
            return 0.0
        # Twice what was predicted, but no longer than that.
        free = min(2 * until - started for _, started, until in self._running.values())
        seconds = free - time.monotonic()
        return seconds if seconds < little else 0.0

    def _seal(self) -> tuple[Lane, list[Waiting]]:
        """The next batch, out of live items only; empty when nothing waits."""
        while (lane := self._next_lane()) is not None:
            if lane.retries:
                half = [one for one in lane.retries.popleft() if not one.job.done.done()]
                if half:
                    return lane, half
                continue
            small = (
                lane.priority is Priority.BULK
                and time.monotonic() - self._interactive_at < _INTERACTIVE_MEMORY_SECONDS
            )
            waiting = self._seconds(lane)
            idle = self._engine.info.streams - len(self._running)
            self._shared = idle > 1 and waiting >= self._budget.little_seconds
            callers = sum(1 for caller in lane.queue.callers.values() if caller.items)
            budget = self._budget.next(waiting, idle if self._shared else 1, callers, small=small)
            batch, closed = lane.queue.seal(budget, self._cost, self._engine.info.layout)
            token_seconds = _SURE * self._cost.token_seconds / self._engine.info.streams
            batch_seconds = self._cost.seconds(len(batch), self._width(batch))
            live = lane.live(batch, token_seconds, batch_seconds)
            if live:
                if closed is Closed.FULL and budget.seconds < self._budget.full_seconds:
                    closed = Closed.SLICE
                lane.metrics.closed[closed].inc()
                return lane, live
        return self._lanes[Priority.INTERACTIVE], []

    def _width(self, batch: Sequence[Waiting]) -> float:
        """Tokens that are computed for an item."""
        return self._engine.info.mean_width([entry.tokens for entry in batch])

    def _next_lane(self) -> Lane | None:
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        if not interactive.waits:
            self._interactive_run = 0
            return bulk if bulk.waits else None
        if not bulk.waits:
            return interactive
        # One slice of bulk at a time is in front of interactive work.
        bulk_runs = any(lane is bulk for lane, _, _ in self._running.values())
        if self._interactive_run >= _INTERACTIVE_RUN and not bulk_runs:
            self._interactive_run = 0
            return bulk
        self._interactive_run += 1
        return interactive

    async def _compute(self, lane: Lane, batch: list[Waiting], stream: int) -> None:
        """Runs a batch; one that fails is halved, until the guilty items are alone."""
        items = [entry.item for entry in batch]
        width = self._width(batch)
        started = time.monotonic()
        expected = self._cost.seconds(len(items), width)
        self._running[stream] = (lane, started, started + expected)
        try:
            computed = await self._threads.run(items, stream)
        except EngineOutOfMemory:
            self._out_of_memory.inc()
            self._budget.shrink(round(len(items) * width))
            if len(batch) == 1:
                lane.metrics.failed.inc()
                batch[0].fail(_no_memory(items[0].tokens))
                return
            self._halve(lane, batch)
        except Exception as error:
            if len(batch) > 1:
                self._halve(lane, batch)
                return
            log.error("the model failed on one item", tokens=items[0].tokens, exc_info=error)
            lane.metrics.failed.inc()
            batch[0].fail(Internal(f"the model failed: {error}", reason="MODEL_FAILED"))
            # An item that nothing can be made of says nothing of the engine.
            if not await self._threads.works(stream):
                now = time.monotonic()
                self._failing = (self._failing[0] if self._failing else now, now)
        else:
            self._failing = None
            # First of all: somebody waits for it.
            suspects = _answer(lane, batch, computed, shared=bool(self._engine.info.packing))
            if suspects:
                lane.retries.extend([entry] for entry in suspects)
                self._arrived.set()
            self._budget.recover()
            self._cost.observe(len(items), width, computed.seconds)
            lane.metrics.count_batch(items, width, computed.seconds)

    def _halve(self, lane: Lane, batch: list[Waiting]) -> None:
        """To be computed in two parts, before what else waits in the lane."""
        half = len(batch) // 2
        lane.retries.extend((batch[:half], batch[half:]))
        self._arrived.set()


def _answer(
    lane: Lane, batch: list[Waiting], computed: ComputedBatch, *, shared: bool
) -> list[Waiting]:
    """Gives the rows out; those to compute again alone: NaN spreads in `shared` rows."""
    wasted = 0
    suspects = []
    for entry, row, good in zip(batch, computed.rows, computed.finite, strict=True):
        if entry.job.done.done():
            wasted += entry.tokens
        elif good:
            entry.answer(row)
        elif shared and len(batch) > 1:
            suspects.append(entry)
        else:
            lane.metrics.failed.inc()
            entry.fail(
                Internal("the model answered NaN or infinity", reason="MODEL_OUTPUT_NOT_FINITE")
            )
    if wasted:
        lane.metrics.wasted_tokens.inc(wasted)
    return suspects


def _unloading() -> Unavailable:
    return Unavailable("the model is being unloaded", reason="MODEL_UNLOADING")


def _no_tokens() -> InvalidArgument:
    return InvalidArgument("the text has no tokens for this model", reason="NO_TOKENS")


def _no_memory(tokens: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the device has no memory for one input of {tokens} tokens; use a device with more, "
        "a smaller model or a shorter window",
        reason="MODEL_OUT_OF_MEMORY",
    )
