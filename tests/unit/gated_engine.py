"""An engine that computes when it is let, a batcher around it, and what is handed to it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.batcher import BatchedRows, Batcher, Priority, QueueLimits, Work
from services.inference.cost import CostModel
from services.inference.engine import EngineInfo, EngineOutOfMemory

POISON, NOT_A_NUMBER = 666, 777
INTERACTIVE, BULK = Work(Priority.INTERACTIVE), Work(Priority.BULK)
# Of the cost model of these tests: a batch, and a padded token.
OVERHEAD, TOKEN = 0.0005, 0.00001


class GatedEngine:
    """Answers each row's first token; runs only while the gate is open; records its batches."""

    def __init__(self, streams: int = 1, batch_tokens: int = 64, memory: int = 10**9) -> None:
        self.info = EngineInfo("fake", "fp32", "cpu", streams, batch_tokens)
        self.memory = memory
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.widths: list[int] = []

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        self.started.release()
        assert self.gate.wait(20)
        if batch.input_ids.size > self.memory:
            raise EngineOutOfMemory("no memory")
        first = batch.input_ids[:, 0]
        self.batches.append(first.tolist())
        self.widths.append(batch.input_ids.shape[1])
        if POISON in first:
            raise RuntimeError("poison")
        rows = np.repeat(first[:, None], 2, axis=1).astype(np.float32)
        rows[first == NOT_A_NUMBER] = np.nan
        return rows

    def close(self) -> None:
        pass


def item(number: int, tokens: int = 8) -> TokenizedItem:
    return TokenizedItem(np.full(tokens, number, np.int64), np.zeros(tokens, np.int64))


class FixedCost(CostModel):
    """What batches cost, whatever a gated engine takes."""

    def __init__(self, overhead: float = OVERHEAD, token: float = TOKEN) -> None:
        shapes = [(1, 8), (1, 64), (8, 8), (8, 64), (32, 16)]
        super().__init__([(r, w, overhead + token * r * w) for r, w in shapes])

    def observe(self, rows: int, width: float, seconds: float) -> None:
        pass


@asynccontextmanager
async def running(
    engine: GatedEngine,
    items: int = 1000,
    tokens: int = 100_000,
    *,
    bytes_: int = 10**9,
    learned: CostModel | None = None,
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        "fake",
        engine,
        pad_token_id=0,
        dimensions=2,
        limits=QueueLimits(items, tokens, bytes_),
        cost=learned or FixedCost(),
    )
    try:
        async with batcher:
            yield batcher
    finally:
        engine.gate.set()


async def busy(engine: GatedEngine, batcher: Batcher) -> "asyncio.Task[BatchedRows]":
    """Occupies the engine's one stream until the gate opens."""
    task: asyncio.Task[BatchedRows] = asyncio.create_task(batcher.run([item(1)], INTERACTIVE))
    assert await asyncio.to_thread(engine.started.acquire, timeout=20)
    return task


async def queued(batcher: Batcher) -> None:
    """Lets tasks that were just made put their items into the queue."""
    await asyncio.sleep(0)


def soon(seconds: float, *, partial: bool = False) -> Work:
    return Work(Priority.INTERACTIVE, "", time.monotonic() + seconds, partial)


def submit(
    batcher: Batcher,
    *items: TokenizedItem,
    work: Work = INTERACTIVE,
) -> "asyncio.Task[BatchedRows]":
    return asyncio.create_task(batcher.run(items, work))


def metric(name: str, priority: str = "interactive", **labels: str) -> float:
    """Of the batchers that `running` makes, which are all of one model."""
    labels = {"model": "fake", "class": priority, **labels}
    return REGISTRY.get_sample_value(f"sirdar_inference_{name}", labels) or 0.0


def of(caller: str, priority: Priority = Priority.INTERACTIVE) -> Work:
    return Work(priority, caller)
