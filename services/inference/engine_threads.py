"""An engine that blocks, for the event loop: a thread for each of its streams."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# How long an engine may take for its last batches when it is freed.
_SHUTDOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class ComputedBatch:
    """What the engine made of a batch."""

    rows: NDArray[np.float32]
    """[items, dimensions]"""
    finite: list[bool]
    """Of each row whether all of it is."""
    seconds: float


Outcome: TypeAlias = ComputedBatch | BaseException
"""Of a batch; the exception is what the engine raised."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A batch that a thread is to compute, and who waits for it."""

    items: Sequence[TokenizedItem]
    stream: int
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[Outcome]


class EngineThreads:
    """Runs batches, each stream's in a thread of its own.

    Not an executor of the standard library: of the 70 us that its locks and chained futures
    take from the loop and the threads a batch, 26 are left.
    """

    def __init__(self, engine: Engine, pad_token_id: int) -> None:
        self._engine = engine
        self._pad_token_id = pad_token_id
        self._streams: list[SimpleQueue[_Asked | None]] = [
            SimpleQueue() for _ in range(engine.info.streams)
        ]
        # An engine that hangs does not keep the process.
        self._threads = [
            Thread(target=self._serve, args=(batches,), name=f"engine_{stream}", daemon=True)
            for stream, batches in enumerate(self._streams)
        ]

    def start(self) -> None:
        """To be called once, before the first batch."""
        for thread in self._threads:
            thread.start()

    def run(self, items: Sequence[TokenizedItem], stream: int) -> asyncio.Future[Outcome]:
        """Begins a batch. Cancelled, the thread goes on to the end of it."""
        loop = asyncio.get_running_loop()
        batch = _Asked(items, stream, loop, loop.create_future())
        self._streams[stream].put(batch)
        return batch.outcome

    async def works(self, stream: int) -> bool:
        """Whether the engine can compute anything at all: the smallest batch that there is."""
        item = TokenizedItem(np.full(1, self._pad_token_id, np.int64), np.zeros(1, np.int64))
        outcome = await self.run([item], stream)
        if isinstance(outcome, BaseException):
            log.error("the engine fails whatever it is asked", exc_info=outcome)
            return False
        return True

    async def shutdown(self) -> None:
        """Waits for the last batches, which cannot be interrupted, unless the engine hangs."""
        for batches in self._streams:
            batches.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                while any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110
                    # Once in a model's life.
                    await asyncio.sleep(0.01)

    def _serve(self, batches: "SimpleQueue[_Asked | None]") -> None:
        while (batch := batches.get()) is not None:
            outcome: Outcome
            try:
                outcome = self._compute(batch)
            except BaseException as error:  # noqa: BLE001 - without its thread a stream hangs
                outcome = error
            # A loop that is closed waits for nothing.
            with contextlib.suppress(RuntimeError):
                batch.loop.call_soon_threadsafe(_deliver, batch.outcome, outcome)

    def _compute(self, batch: _Asked) -> ComputedBatch:
        started = time.perf_counter()
        rows = self._engine.run(TokenBatch.pad(batch.items, self._pad_token_id), batch.stream)
        finite: list[bool] = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
        return ComputedBatch(rows, finite, time.perf_counter() - started)


def _deliver(waiting: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not waiting.done():
        waiting.set_result(outcome)
