"""The cost model learns what batches take from the batches themselves."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.cost import CostModel, calibrate
from services.inference.engine import EngineInfo

SHAPES = [(1, 8), (1, 128), (8, 8), (8, 64), (32, 16)]


def true_seconds(rows: int, width: int, speed: float = 1.0) -> float:
    return (0.003 + 0.0001 * rows + 0.00007 * rows * width) / speed


def measured(speed: float = 1.0) -> list[tuple[int, int, float]]:
    return [(rows, width, true_seconds(rows, width, speed)) for rows, width in SHAPES]


def test_it_knows_the_shapes_it_has_not_seen() -> None:
    cost = CostModel(measured())
    assert cost.seconds(12, 40) == pytest.approx(true_seconds(12, 40), rel=0.01)
    assert cost.overhead_seconds == pytest.approx(0.003, rel=0.05)


def test_it_follows_a_machine_that_gets_slower_also_when_traffic_is_of_one_shape() -> None:
    cost = CostModel(measured())
    noise = random.Random(1)
    for _ in range(200):
        cost.observe(8, 64, true_seconds(8, 64, 0.5) * noise.uniform(0.9, 1.1))
    assert cost.seconds(8, 64) == pytest.approx(true_seconds(8, 64, 0.5), rel=0.1)
    # Nothing was seen of the others: they stay plausible.
    assert true_seconds(1, 8) * 0.5 < cost.seconds(1, 8) < true_seconds(1, 8, 0.5) * 3
    for _ in range(400):
        cost.observe(8, 64, true_seconds(8, 64))
    assert cost.seconds(8, 64) == pytest.approx(true_seconds(8, 64), rel=0.1)


def test_one_stalled_batch_does_not_change_its_mind() -> None:
    cost = CostModel(measured())
    for _ in range(50):
        cost.observe(8, 64, true_seconds(8, 64))
    cost.observe(8, 64, 30.0)
    assert cost.seconds(8, 64) == pytest.approx(true_seconds(8, 64), rel=0.2)


def test_no_coefficient_is_negative() -> None:
    cost = CostModel([(1, 8, 0.01), (1, 128, 0.01), (32, 16, 0.01), (8, 8, 0.012)])
    assert min(cost.overhead_seconds, cost.row_seconds, cost.token_seconds) >= 0
    assert cost.token_seconds > 0
    assert cost.seconds(4, 32) == pytest.approx(0.01, rel=0.2)


def test_work_of_many_batches_counts_the_overhead_of_each() -> None:
    cost = CostModel(measured())
    batch_seconds = 0.053
    pure = 100 * cost.row_seconds + 10_000 * cost.token_seconds
    expected = pure + cost.overhead_seconds * pure / (batch_seconds - cost.overhead_seconds)
    assert cost.work_seconds(100, 10_000, batch_seconds) == pytest.approx(expected)
    assert cost.work_seconds(1, 8, batch_seconds) == pytest.approx(cost.seconds(1, 8))
    assert cost.work_seconds(0, 0, batch_seconds) == 0


def test_calibrating_runs_shapes_that_the_engine_can_take() -> None:
    class Recording:
        info = EngineInfo("fake", "fp32", "cpu", 1, batch_tokens=256)
        shapes: list[tuple[int, ...]] = []  # noqa: RUF012 - one engine

        def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
            self.shapes.append(batch.input_ids.shape)
            assert (batch.input_ids == 3).all()
            assert (batch.attention_mask == 1).all()
            return np.zeros((batch.input_ids.shape[0], 2), np.float32)

        def close(self) -> None: ...

    engine = Recording()
    cost = calibrate(engine, pad_token_id=3, max_tokens=24)
    assert cost.seconds(1, 8) > 0
    assert max(width for _, width in engine.shapes) == 24
    assert all(rows == 1 or rows * width <= 256 for rows, width in engine.shapes)
