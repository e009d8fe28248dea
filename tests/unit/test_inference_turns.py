"""Whose turn it is: callers share, bulk is cut, streams share or wait for one another."""

import asyncio
from functools import partial

import numpy as np
import pytest

from services.inference.batch_plan import Budget
from services.inference.batcher import Priority
from services.inference.length_queue import LengthQueue
from services.inference.work import Job, Waiting
from tests.unit.gated_engine import (
    BULK,
    INTERACTIVE,
    FixedCost,
    GatedEngine,
    busy,
    item,
    metric,
    of,
    queued,
    running,
    submit,
)


async def test_callers_share_the_engine_however_much_each_asks() -> None:
    engine = GatedEngine(batch_tokens=8)
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        greedy = submit(batcher, *[item(100 + n) for n in range(30)], work=of("greedy"))
        await queued(batcher)
        modest = submit(batcher, *[item(2 + n) for n in range(3)], work=of("modest"))
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, greedy, modest)
    order = [numbers[0] for numbers in engine.batches[1:]]
    # Turn by turn, although the greedy one was first.
    assert [number < 100 for number in order[:6]].count(True) == 3


async def test_requests_end_one_after_another_not_all_at_the_end() -> None:
    """Items ride along from the near of the queue only: what is given up is not half done."""
    engine = GatedEngine(batch_tokens=40)
    learned = FixedCost(overhead=0.0001, token=0.0005)
    async with running(engine, learned=learned) as batcher:
        first = await busy(engine, batcher)
        done: list[int] = []

        def note(number: int, task: object) -> None:
            done.append(number)

        requests = []
        for number in range(20):
            task = submit(batcher, item(10 * number + 5, 8), item(10 * number + 6, 32))
            task.add_done_callback(partial(note, number))
            requests.append(task)
            await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, *requests)
    firsts = [numbers[0] for numbers in engine.batches[1:]]
    # The long item of the first request is not behind the short ones of the last.
    assert firsts.index(6) < 8
    assert done.index(0) < 6


async def test_bulk_is_cut_into_slices_while_interactive_work_is_about() -> None:
    engine = GatedEngine(batch_tokens=10_000)
    learned = FixedCost(overhead=0.002, token=0.001)
    async with running(engine, learned=learned) as batcher:
        first = await busy(engine, batcher)  # interactive
        before = metric("batches_total", "bulk", closed="slice")
        bulk = submit(batcher, *[item(n) for n in range(2, 22)], work=BULK)
        await queued(batcher)
        engine.gate.set()
        await asyncio.gather(first, bulk)
    # 20 ms are two items of 8 tokens; 40 ms, of a full batch, would be four.
    assert max(len(numbers) for numbers in engine.batches) == 2
    assert metric("batches_total", "bulk", closed="slice") >= before + 9


async def test_idle_streams_share_what_comes() -> None:
    engine = GatedEngine(streams=2, batch_tokens=10_000)
    engine.gate.set()
    async with running(engine, learned=FixedCost(overhead=0.001, token=0.0002)) as batcher:
        await batcher.run([item(n) for n in range(2, 22)], INTERACTIVE)
    assert sorted(map(len, engine.batches)) == [10, 10]


async def test_little_work_waits_for_the_stream_that_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several small batches at once cost more than one that is larger."""
    # Seconds where a server has milliseconds, so that the test has time.
    monkeypatch.setattr("services.inference.batch_budget._LITTLE", 1000.0)
    engine = GatedEngine(streams=2, batch_tokens=10_000)
    async with running(engine, learned=FixedCost(overhead=10.0)) as batcher:
        first = await busy(engine, batcher)
        more = [submit(batcher, item(number)) for number in (2, 3)]
        await queued(batcher)
        assert not await asyncio.to_thread(engine.started.acquire, timeout=0.2)
        engine.gate.set()
        await asyncio.gather(first, *more)
    assert sorted(number for batch in engine.batches[1:] for number in batch) == [2, 3]


async def test_a_stream_that_takes_longer_than_predicted_is_not_waited_for() -> None:
    engine = GatedEngine(streams=2, batch_tokens=10_000)
    async with running(engine, learned=FixedCost(overhead=0.001, token=0.0005)) as batcher:
        first = await busy(engine, batcher)
        second = submit(batcher, item(2))
        # The first is held at the gate, and still the second is begun.
        assert await asyncio.to_thread(engine.started.acquire, timeout=20)
        engine.gate.set()
        await asyncio.gather(first, second)


async def test_thousands_of_callers_are_not_remembered() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        for number in range(600):
            await batcher.run([item(2)], of(f"caller {number}"))
        assert len(batcher._lanes[Priority.INTERACTIVE].queue.callers) < 10


async def test_callers_are_forgotten_while_the_engine_stays_busy_too() -> None:
    queue = LengthQueue()
    cost = FixedCost()
    budget = Budget(seconds=1.0, padded_tokens=8, window_tokens=0)
    loop = asyncio.get_running_loop()
    for number in range(2_000):
        for name in ("steady", f"caller {number}"):
            job = Job(of(name), np.empty((1, 2), np.float32), loop.create_future(), 1)
            queue.push([Waiting(item(2), job, 0)])
        queue.seal(budget, cost)
        if number > 100:
            queue.seal(budget, cost)
        assert queue.items
    assert len(queue.callers) <= 256 + queue.items
