"""An engine that blocks, for the event loop: a thread for each of its streams."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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


class EngineThreads:
    """Runs batches in threads, one a stream at a time."""

    def __init__(self, engine: Engine, pad_token_id: int) -> None:
        self._engine = engine
        self._pad_token_id = pad_token_id
        self._threads = ThreadPoolExecutor(engine.info.streams, thread_name_prefix="engine")
        self._busy: set[int] = set()

    async def run(self, items: Sequence[TokenizedItem], stream: int) -> ComputedBatch:
        """Raises what the engine raises. Cancelled, the thread goes on to the end of the batch."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, items, stream)

    async def works(self, stream: int) -> bool:
        """Whether the engine can compute anything at all: the smallest batch that there is."""
        item = TokenizedItem(np.full(1, self._pad_token_id, np.int64), np.zeros(1, np.int64))
        try:
            await self.run([item], stream)
        except Exception as error:
            log.error("the engine fails whatever it is asked", exc_info=error)
            return False
        return True

    async def shutdown(self) -> None:
        """Waits for the last batches, which cannot be interrupted, unless the engine hangs."""
        self._threads.shutdown(wait=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                while self._busy:  # noqa: ASYNC110 - once in a model's life
                    await asyncio.sleep(0.01)

    def _run(self, items: Sequence[TokenizedItem], stream: int) -> ComputedBatch:
        self._busy.add(stream)
        try:
            started = time.perf_counter()
            rows = self._engine.run(TokenBatch.pad(items, self._pad_token_id), stream)
            finite: list[bool] = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
            return ComputedBatch(rows, finite, time.perf_counter() - started)
        finally:
            self._busy.discard(stream)
