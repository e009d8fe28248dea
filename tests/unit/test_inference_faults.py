"""What fails, hangs or does not fit costs its own requests, and the batcher goes on."""

import asyncio
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.length_queue import LengthQueue
from sirdar.errors import Internal
from tests.unit.gated_engine import (
    BULK,
    INTERACTIVE,
    POISON,
    GatedEngine,
    busy,
    item,
    queued,
    running,
    submit,
)


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
            patch.setattr("services.inference.sealed_batch.SealedBatch.answer", None)
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


async def test_no_exception_ends_the_thread_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that is no Exception, as panics in native code are."""
    engine = GatedEngine()
    engine.gate.set()

    def panic(batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        raise BaseException("panic")

    async with running(engine) as batcher, asyncio.timeout(20):
        with monkeypatch.context() as patch:
            patch.setattr(engine, "run", panic)
            failed = await batcher.run([item(2)], INTERACTIVE)
        assert failed.failures[0].reason == "MODEL_FAILED"
        result = await batcher.run([item(3)], INTERACTIVE)
    assert result.rows[0, 0] == 3
