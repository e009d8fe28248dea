"""The batcher: what waits together is computed together, and nobody hangs."""

import asyncio

import pytest

from sirdar.errors import DeadlineExceeded, Internal, ResourceExhausted, Unavailable
from tests.unit.gated_engine import (
    BULK,
    INTERACTIVE,
    NOT_A_NUMBER,
    POISON,
    GatedEngine,
    busy,
    item,
    queued,
    running,
    soon,
    submit,
)


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
