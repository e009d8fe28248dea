"""The dynamic batcher: what waits together is computed together.

Callers are let in by what the queue and the cost model predict
(admission.py) and put tokenized items into the lane of their priority
(lane.py, length_queue.py). One task a stream of the engine seals a batch at the
moment the stream is free (turns.py), so nothing waits while the engine idles, and
a batch is as large as the load and its time budget make it. All state lives on the
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
from services.inference.cost import CostModel
from services.inference.engine import Engine, EngineOutOfMemory
from services.inference.engine_threads import ComputedBatch, EngineThreads
from services.inference.lane import Lane
from services.inference.metrics import OUT_OF_MEMORY, STREAMS
from services.inference.turns import Turns
from services.inference.work import BatchedRows, Job, Priority, Waiting, Work
from sirdar.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable

__all__ = ["BatchedRows", "Batcher", "Priority", "QueueLimits", "Work"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


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
        self._lanes = {priority: Lane(model, priority) for priority in Priority}
        self._turns = Turns(engine.info, cost, self._lanes)
        self._arrived = asyncio.Event()
        self._closing = False
        self._threads = EngineThreads(engine, pad_token_id)
        self._tasks: list[asyncio.Task[None]] = []
        # The first and the last failure since a batch last succeeded.
        self._failing: tuple[float, float] | None = None
        self._out_of_memory = OUT_OF_MEMORY.labels(model)
        STREAMS.labels(model).set(engine.info.streams)
        for lane in self._lanes.values():
            lane.metrics.queued_seconds.set_function(partial(self._turns.queued_seconds, lane))

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
        while self._turns.anything_left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    @property
    def stuck_seconds(self) -> float:
        """For how long the engine has been at its oldest batch, or has failed at anything."""
        first, last = self._failing or (0.0, 0.0)
        return max(self._turns.oldest_seconds, last - first)

    def admit(self, items: int, tokens: int, work: Work) -> Admission:
        """Keeps a place for so many items, with about so many tokens together.

        Raises ResourceExhausted, at once, when the queue is full or the items
        would not be done by the deadline; Unavailable when the batcher closes.
        A request of any size is let into an empty queue.
        """
        if self._closing:
            raise _unloading()
        if work.priority is Priority.INTERACTIVE:
            self._turns.interactive_came()
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
        """As `Turns.predicted_seconds`."""
        return self._turns.predicted_seconds(lane, caller, items, tokens)

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

    async def _serve(self, stream: int) -> None:
        """Feeds one stream of the engine, for ever."""
        while True:
            if (seconds := self._turns.held_back_seconds()) > 0:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._arrived.wait()
                continue
            try:
                lane, batch = self._turns.seal()
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
                self._turns.end(stream)
                # What was held back may go.
                self._arrived.set()

    async def _compute(self, lane: Lane, batch: list[Waiting], stream: int) -> None:
        """Runs a batch; one that fails is halved, until the guilty items are alone."""
        items = [entry.item for entry in batch]
        width = self._turns.width(batch)
        self._turns.begin(stream, lane, len(items), width)
        try:
            computed = await self._threads.run(items, stream)
        except EngineOutOfMemory:
            self._out_of_memory.inc()
            self._turns.budget.shrink(round(len(items) * width))
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
            self._turns.budget.recover()
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
