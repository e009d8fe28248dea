"""Who is let in, who goes first, and what becomes of those who would be late."""

import asyncio
import time

import pytest

from services.inference.batcher import Priority, Work
from services.inference.lane import Forecast
from sirdar.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from tests.unit.gated_engine import (
    INTERACTIVE,
    FixedCost,
    GatedEngine,
    busy,
    item,
    metric,
    of,
    queued,
    running,
    soon,
    submit,
)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once_with_a_delay() -> None:
    engine = GatedEngine()
    # 100 items of 8 tokens: 8 s of work.
    async with running(engine, learned=FixedCost(token=0.01)) as batcher:
        first = await busy(engine, batcher)
        waiting = submit(batcher, *[item(n) for n in range(2, 102)])
        await queued(batcher)
        before = metric("dropped_items_total", why="hopeless")
        with pytest.raises(ResourceExhausted) as caught:
            batcher.admit(2, 16, soon(1.0))
        assert caught.value.reason == "DEADLINE_TOO_NEAR"
        assert caught.value.retry_after is not None
        assert 5 < caught.value.retry_after.total_seconds() < 15
        assert metric("dropped_items_total", why="hopeless") == before + 2
        in_time = submit(batcher, item(200), work=soon(60))
        engine.gate.set()
        await asyncio.gather(first, waiting, in_time)
    assert [200] in [numbers[-1:] for numbers in engine.batches]


async def test_what_is_promised_counts_before_it_is_queued() -> None:
    engine = GatedEngine()
    async with running(engine, learned=FixedCost(token=0.01)) as batcher:
        first = await busy(engine, batcher)
        with batcher.admit(100, 800, soon(60)), pytest.raises(ResourceExhausted):
            batcher.admit(1, 8, soon(2.0))
        with batcher.admit(1, 8, soon(2.0)) as admission:  # the place was given back
            engine.gate.set()
            result = await admission.run([item(7)])
        await first
    assert result.rows[0, 0] == 7


async def test_a_full_queue_of_bytes_refuses() -> None:
    engine = GatedEngine()
    async with running(engine, bytes_=100) as batcher:
        first = await busy(engine, batcher)
        waiting = submit(batcher, item(2))
        await queued(batcher)
        with pytest.raises(ResourceExhausted):
            await batcher.run([item(3)], INTERACTIVE)
        engine.gate.set()
        await asyncio.gather(first, waiting)


async def test_partial_work_drops_its_tail_and_keeps_its_head() -> None:
    engine = GatedEngine(batch_tokens=8)
    # 80 ms an item.
    async with running(engine, learned=FixedCost(token=0.01)) as batcher:
        first = await busy(engine, batcher)
        many = submit(batcher, *[item(n) for n in range(2, 102)], work=soon(1.0, partial=True))
        await queued(batcher)
        engine.gate.set()
        _, result = await asyncio.gather(first, many)
    done = 100 - len(result.dropped)
    assert 3 <= done <= 12
    assert result.dropped == frozenset(range(done, 100))
    assert result.rows[:done, 0].tolist() == list(range(2, 2 + done))


async def test_partial_work_whose_time_passes_in_the_queue_settles_with_what_it_has() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        late = submit(batcher, item(2), item(3), work=soon(0.05, partial=True))
        await asyncio.sleep(0.1)
        engine.gate.set()
        _, result = await asyncio.gather(first, late)
    assert result.dropped == {0, 1}
    assert engine.batches == [[1]]


async def test_partial_work_without_time_for_one_item_is_refused() -> None:
    engine = GatedEngine()
    async with running(engine, learned=FixedCost(token=0.01)) as batcher:
        first = await busy(engine, batcher)
        with pytest.raises(ResourceExhausted):
            await batcher.run([item(2)], soon(0.02, partial=True))
        engine.gate.set()
        await first


async def test_a_modest_caller_is_let_in_beside_a_greedy_one_that_fills_the_time() -> None:
    engine = GatedEngine()
    async with running(engine, learned=FixedCost(token=0.01)) as batcher:
        first = await busy(engine, batcher)
        greedy = submit(batcher, *[item(n) for n in range(2, 102)], work=of("greedy"))
        await queued(batcher)
        with pytest.raises(ResourceExhausted):
            batcher.admit(1, 8, Work(Priority.INTERACTIVE, "greedy", time.monotonic() + 2))
        modest = Work(Priority.INTERACTIVE, "modest", time.monotonic() + 2)
        with batcher.admit(1, 8, modest):
            pass
        engine.gate.set()
        await asyncio.gather(first, greedy)


async def test_metrics_say_what_was_computed_in_vain() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        before = metric("wasted_tokens_total")
        task = submit(batcher, item(5), item(6))
        assert await asyncio.to_thread(engine.started.acquire, timeout=20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        engine.gate.set()
        await batcher.run([item(7)], INTERACTIVE)
    assert metric("wasted_tokens_total") == before + 16


async def test_closing_finishes_what_was_let_in_and_takes_nothing_new() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        waiting = submit(batcher, item(2))
        await queued(batcher)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            batcher.admit(1, 8, INTERACTIVE)
        assert not closing.done()
        engine.gate.set()
        await asyncio.gather(first, waiting, closing)
    assert engine.batches == [[1], [2]]


async def test_work_without_partial_is_late_as_a_whole() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        late = submit(batcher, item(2), item(3), work=soon(0.05))
        await asyncio.sleep(0.1)
        engine.gate.set()
        with pytest.raises(DeadlineExceeded):
            await late
        await first


def test_the_forecast_follows_the_machine_and_keeps_a_reserve() -> None:
    forecast = Forecast()
    assert 1 < forecast.safe < 1.5
    for number in range(400):
        forecast.observe(1.0, 1.8 if number % 2 else 2.2)
    learned = forecast.safe
    assert 2.2 < learned < 3
    forecast.observe(0.001, 100)  # too short to say anything
    assert forecast.safe == learned
