"""Who is let in, who goes first, and what becomes of those who would be late."""

import asyncio
import threading
import time
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.inference.batch import TokenBatch
from services.inference.batch_plan import Budget
from services.inference.batcher import Priority, Work
from services.inference.lane import Forecast
from services.inference.length_queue import LengthQueue
from services.inference.work import Job, Waiting
from sirdar.errors import DeadlineExceeded, Internal, ResourceExhausted, Unavailable
from tests.unit.test_inference_batcher import (
    BULK,
    INTERACTIVE,
    POISON,
    FixedCost,
    GatedEngine,
    busy,
    item,
    queued,
    running,
    soon,
    submit,
)


def metric(name: str, priority: str = "interactive", **labels: str) -> float:
    labels = {"model": "fake", "class": priority, **labels}
    return REGISTRY.get_sample_value(f"sirdar_inference_{name}", labels) or 0.0


def of(caller: str, priority: Priority = Priority.INTERACTIVE) -> Work:
    return Work(priority, caller)


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


async def test_a_batch_too_large_for_memory_is_halved_and_the_next_is_smaller() -> None:
    engine = GatedEngine(batch_tokens=64, memory=32)
    engine.gate.set()
    async with running(engine) as batcher:
        result = await batcher.run([item(n) for n in range(2, 18)], BULK)
        assert result.failures == {}
        assert result.rows[:, 0].tolist() == list(range(2, 18))
        tried = len(engine.batches)
        await batcher.run([item(n) for n in range(2, 18)], BULK)
        assert all(len(numbers) <= 4 for numbers in engine.batches[tried:])
        alone = await batcher.run([item(2, 40), item(3)], INTERACTIVE)
    assert alone.failures[0].reason == "MODEL_OUT_OF_MEMORY"
    assert list(alone.failures) == [0]


async def test_a_fault_of_the_batcher_costs_one_batch_not_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr("services.inference.batcher._answer", None)
            with pytest.raises(Exception, match="batcher failed"):
                await batcher.run([item(2)], INTERACTIVE)
        result = await batcher.run([item(3)], INTERACTIVE)
        assert batcher.stuck_seconds < 10
    assert result.rows[0, 0] == 3


async def test_progress_is_told_while_the_engine_hangs() -> None:
    engine = GatedEngine()
    async with running(engine) as batcher:
        assert batcher.stuck_seconds == 0
        first = await busy(engine, batcher)
        await asyncio.sleep(0.05)
        assert batcher.stuck_seconds >= 0.05
        engine.gate.set()
        await first
        assert batcher.stuck_seconds == 0


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


class HoldingEngine(GatedEngine):
    """Keeps a poisoned batch of several until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.let_go = threading.Event(), threading.Event()

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        if POISON in batch.input_ids and len(batch.input_ids) > 1 and not self.held.is_set():
            self.held.set()
            assert self.let_go.wait(20)
        return super().run(batch, stream)


async def test_halves_of_a_failed_batch_let_interactive_work_pass_and_skip_the_cancelled() -> None:
    engine = HoldingEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        bad = submit(batcher, item(POISON), item(3), work=BULK)
        given_up = submit(batcher, item(4), item(5), work=BULK)
        assert await asyncio.to_thread(engine.held.wait, 20)
        given_up.cancel()
        urgent = submit(batcher, item(6))
        await queued(batcher)
        engine.let_go.set()
        result = await bad
        await urgent
    assert list(result.failures) == [0]
    assert result.rows[1, 0] == 3
    # [0] is the engine's own: whether it works at all.
    assert engine.batches == [[POISON, 3, 4, 5], [6], [POISON, 3], [POISON], [0], [3]]


async def test_an_item_without_tokens_is_an_error_of_its_own() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        result = await batcher.run([item(2), item(3, tokens=0)], INTERACTIVE)
        assert list(result.failures) == [1]
        assert result.failures[1].reason == "NO_TOKENS"
        alone = await batcher.run([item(3, tokens=0)], INTERACTIVE)
    assert list(alone.failures) == [0]


async def test_a_fault_in_the_queue_ends_what_waits_not_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(LengthQueue, "seal", None)
            with pytest.raises(Internal):
                await batcher.run([item(2)], INTERACTIVE)
        result = await batcher.run([item(3)], INTERACTIVE)
    assert result.rows[0, 0] == 3


async def test_an_engine_that_fails_everything_makes_no_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running(engine) as batcher:
        for _ in range(2):
            await batcher.run([item(POISON)], INTERACTIVE)
            await asyncio.sleep(0.05)
        assert batcher.stuck_seconds == 0  # it was the item
        monkeypatch.setattr(engine, "run", None)
        for _ in range(2):
            await batcher.run([item(2)], INTERACTIVE)
            await asyncio.sleep(0.05)
        assert batcher.stuck_seconds >= 0.05
        monkeypatch.undo()
        await batcher.run([item(2)], INTERACTIVE)
        assert batcher.stuck_seconds == 0
