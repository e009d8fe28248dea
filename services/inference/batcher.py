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
from services.inference.sealed_batch import SealedBatch
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
        self._threads.start()
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
        """Feeds one stream of the engine, for ever; gives out a batch while it is at the next."""
        done: tuple[SealedBatch, ComputedBatch] | None = None
        while True:
            held_back = self._turns.held_back_seconds()
            batch = None if held_back > 0 else self._begin(stream)
            if done is not None:
                self._give_out(*done)
                done = None
                if batch is None:
                    # Some of it may have to be computed again.
                    continue
            if batch is not None:
                done = await self._finish(batch, stream)
                continue
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(held_back or None):
                    await self._arrived.wait()

    def _begin(self, stream: int) -> SealedBatch | None:
        """Seals a batch and hands it to the engine; None when nothing waits."""
        try:
            lane, entries = self._turns.seal()
        except Exception as error:
            log.error("the batcher failed on its queue", exc_info=error)
            for broken in self._lanes.values():
                broken.abandon(Internal("the batcher failed on its queue"))
            return None
        if not entries:
            return None
        items = [entry.item for entry in entries]
        width = self._turns.width(entries)
        self._turns.begin(stream, lane, len(items), width)
        return SealedBatch(lane, entries, items, width, self._threads.run(items, stream))

    async def _finish(
        self, batch: SealedBatch, stream: int
    ) -> tuple[SealedBatch, ComputedBatch] | None:
        """What the engine made of a batch; of one that failed nothing is left to give out."""
        try:
            outcome = await batch.outcome
            if isinstance(outcome, ComputedBatch):
                return batch, outcome
            with batch.pays():
                await self._isolate(batch, outcome, stream)
        except asyncio.CancelledError:
            batch.fail(_unloading())
            raise
        finally:
            self._turns.end(stream)
            # What was held back may go.
            self._arrived.set()
        return None

    async def _isolate(self, batch: SealedBatch, error: BaseException, stream: int) -> None:
        """Halves a batch that failed, until the guilty items are alone."""
        lane, entries = batch.lane, batch.entries
        no_memory = isinstance(error, EngineOutOfMemory)
        if no_memory:
            self._out_of_memory.inc()
            self._turns.budget.shrink(round(len(entries) * batch.width))
        if len(entries) > 1:
            # Before what else waits in the lane.
            half = len(entries) // 2
            lane.retries.extend((entries[:half], entries[half:]))
            return
        lane.metrics.failed.inc()
        (entry,) = entries
        if no_memory:
            entry.fail(_no_memory(entry.tokens))
            return
        log.error("the model failed on one item", tokens=entry.tokens, exc_info=error)
        entry.fail(Internal(f"the model failed: {error}", reason="MODEL_FAILED"))
        # An item that nothing can be made of says nothing of the engine.
        if not await self._threads.works(stream):
            now = time.monotonic()
            self._failing = (self._failing[0] if self._failing else now, now)

    def _give_out(self, batch: SealedBatch, computed: ComputedBatch) -> None:
        """Answers what was computed, and learns from it."""
        self._failing = None
        with batch.pays():
            # First of all: somebody waits for it.
            suspects = batch.answer(computed, shared=bool(self._engine.info.packing))
            if suspects:
                batch.lane.retries.extend([entry] for entry in suspects)
                self._arrived.set()
            self._turns.budget.recover()
            self._cost.observe(len(batch.items), batch.width, computed.seconds)
            batch.lane.metrics.count_batch(batch.items, batch.width, computed.seconds)


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
