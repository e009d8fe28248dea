"""The cost model learns what batches take from the batches themselves."""

import itertools
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
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


def test_calibrating_changes_the_shape_with_every_batch() -> None:
    seen: list[tuple[int, ...]] = []

    class Recording:
        info = EngineInfo("fake", "fp32", "cpu", 1, batch_tokens=1024)

        def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
            seen.append(batch.input_ids.shape)
            return np.zeros((batch.input_ids.shape[0], 2), np.float32)

        def close(self) -> None: ...

    calibrate(Recording(), pad_token_id=0, max_tokens=512)
    assert len(set(seen)) < len(seen)
    assert all(one != other for one, other in itertools.pairwise(seen))


def test_batches_are_widened_where_that_is_as_fast_but_not_beyond_the_window() -> None:
    info = EngineInfo("fake", "bf16", "cpu", 1, 768, width_step=16, max_width=106)
    assert [info.width(tokens) for tokens in (0, 8, 9, 16, 24, 25, 60, 64)] == [
        *(0, 8, 16, 16, 24, 32, 64, 64)
    ]
    assert (info.width(90), info.width(107), info.width(125)) == (96, 107, 125)
    short = EngineInfo("fake", "bf16", "cpu", 1, 768, width_step=16, max_width=60)
    assert (short.width(57), short.width(61)) == (60, 61)
    assert EngineInfo("fake", "fp32", "cpu", 1, 768).width(63) == 63


def test_a_wider_batch_says_which_of_it_is_padding() -> None:
    item = TokenizedItem(np.array([5, 6], np.int64), np.array([0, 1], np.int64))
    batch = TokenBatch.pad([item], pad_token_id=3)
    wider = batch.widened(4)
    assert wider.input_ids.tolist() == [[5, 6, 3, 3]]
    assert wider.attention_mask.tolist() == [[1, 1, 0, 0]]
    assert wider.token_type_ids.tolist() == [[0, 1, 0, 0]]
    assert batch.widened(1).input_ids.tolist() == [[5, 6]]
