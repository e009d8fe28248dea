"""The batcher: what waits together is computed together, and nobody hangs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.batcher import BatchedRows, Batcher, Priority, QueueLimits, Work
from services.inference.cost import CostModel
from services.inference.engine import EngineInfo, EngineOutOfMemory
from sirdar.errors import DeadlineExceeded, Internal, ResourceExhausted, Unavailable

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


async def test_rows_come_back_in_the_order_of_the_items() -> None:
    engine = GatedEngine(streams=2)
    engine.gate.set()
    async with running(engine) as batcher:
        items = [item(n, tokens=1 + (n * 7) % 40) for n in range(100)]
        result = await batcher.run(items, BULK)
    assert result.rows[:, 0].tolist() == list(range(100))
    assert result.failures == {}


async def test_items_that_wait_together_are_computed_together() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        others = [submit(batcher, item(n)) for n in (2, 3, 4)]
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, *others)
    assert engine.batches == [[1], [2, 3, 4]]


async def test_batches_hold_similar_lengths_within_the_budget() -> None:
    engine = GatedEngine(batch_tokens=64)
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        lengths = [60, 4, 60, 4, 4, 30, 30, 200]
        many = submit(batcher, *[item(n + 2, length) for n, length in enumerate(lengths)])
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, many)
    assert engine.batches[1:] == [[2], [3, 5, 6], [4], [7, 8], [9]]
    for numbers, width in zip(engine.batches, engine.widths, strict=True):
        assert len(numbers) == 1 or len(numbers) * width <= 64


async def test_interactive_goes_first_and_bulk_still_gets_its_turn() -> None:
    engine = GatedEngine(batch_tokens=8)
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        bulk = submit(batcher, *[item(100 + n) for n in range(3)], work=BULK)
        await queued(batcher)
        interactive = submit(batcher, *[item(2 + n) for n in range(20)])
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, bulk, interactive)
    order = [numbers[0] for numbers in engine.batches[1:]]
    assert order[0] == 2
    assert order.index(100) == 7
    assert order.index(101) == 15


async def test_full_queue_refuses_at_once_and_says_when_to_retry() -> None:
    engine = GatedEngine()
    async with running(engine, items=3) as batcher:
        first = await busy(engine, batcher)
        waiting = submit(batcher, item(2), item(3))
        await queued(batcher)
        with pytest.raises(ResourceExhausted) as caught:
            await batcher.run([item(4), item(5)], INTERACTIVE)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after.total_seconds() > 0
        bulk = submit(batcher, item(6), work=BULK)  # has a queue of its own
        engine.gate.set()
        await asyncio.gather(first, waiting, bulk)


async def test_request_larger_than_the_queue_is_let_into_an_empty_one() -> None:
    engine = GatedEngine(batch_tokens=16)
    engine.gate.set()
    async with running(engine, items=5, tokens=50) as batcher:
        result = await batcher.run([item(n, 16) for n in range(60)], BULK)
    assert result.rows[:, 0].tolist() == list(range(60))


async def test_expired_work_is_dropped_before_it_costs_compute() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        late = submit(batcher, item(2), item(3, 40), work=soon(0.05))
        alive = submit(batcher, item(4))
        await queued(batcher)
        await asyncio.sleep(0.1)
        engine.gate.set()
        with pytest.raises(DeadlineExceeded):
            await late
        await asyncio.gather(first, alive)
    assert engine.batches == [[1], [4]]


async def test_cancelled_work_is_dropped_before_it_costs_compute() -> None:
    engine = GatedEngine()
    async with running(engine, items=2) as batcher:
        first = await busy(engine, batcher)
        given_up = submit(batcher, item(2), item(3))
        await queued(batcher)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        alive = submit(batcher, item(4), item(5))  # there is room again at once
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, alive)
    assert engine.batches == [[1], [4, 5]]


async def test_only_the_guilty_item_of_a_failing_batch_fails() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        good = submit(batcher, item(2), item(3))
        bad = asyncio.create_task(batcher.run([item(4), item(POISON)], INTERACTIVE))
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, good)
        result = await bad
    assert engine.batches[1] == [2, 3, 4, POISON]
    assert result.rows[0, 0] == 4
    assert list(result.failures) == [1]
    assert isinstance(result.failures[1], Internal)


async def test_nan_is_an_error_never_a_vector() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        result = await batcher.run([item(2), item(NOT_A_NUMBER)], INTERACTIVE)
    assert result.rows[0, 0] == 2
    assert result.failures[1].reason == "MODEL_OUTPUT_NOT_FINITE"


async def test_as_many_batches_run_at_once_as_the_engine_has_streams() -> None:
    engine = GatedEngine(streams=2, batch_tokens=8)
    async with running(engine) as batcher:
        tasks = [submit(batcher, item(n)) for n in range(3)]
        for _ in range(2):
            assert await asyncio.to_thread(engine.started.acquire, timeout=20)
        assert not engine.started.acquire(blocking=False)
        engine.gate.set()
        await asyncio.gather(*tasks)


async def test_callers_of_a_batch_under_way_are_told_when_the_batcher_ends() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        asyncio.get_running_loop().call_later(0.2, engine.gate.set)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(first, 20)
