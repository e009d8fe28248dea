"""The arithmetic of the embedder's benchmark."""

import numpy as np
import pytest

from benchmarks.embedder.client import rate_between
from benchmarks.embedder.engine import EngineRun, min_cosine
from benchmarks.embedder.gap import Gap
from benchmarks.embedder.interference import bulk_loss
from benchmarks.embedder.overload import Fate, Outcome, Overload
from benchmarks.embedder.peak import ModelArithmetic
from benchmarks.harness.ceiling import ceiling
from benchmarks.harness.quantile import quantile


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(500, 0, -1)]
    assert quantile(values, 0.99) == 495
    assert quantile(values, 0.5) == 250
    assert quantile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_costs_of_engine_and_calls_add() -> None:
    assert ceiling(1000, 1000) == pytest.approx(500)
    assert ceiling(1350, 6500) == pytest.approx(1118, abs=1)


def test_bulk_loses_nothing_when_it_gives_up_what_queries_use() -> None:
    assert bulk_loss(alone=200, beside=180, interactive_share=0.1) == pytest.approx(0)
    assert bulk_loss(alone=200, beside=90, interactive_share=0.1) == pytest.approx(0.5)


def test_bursts_of_answers_do_not_change_a_rate() -> None:
    steady = [(second / 10, 10) for second in range(1, 101)]
    bursts = [(float(second), 100) for second in range(1, 11)]
    assert rate_between(steady, 2, 9) == pytest.approx(100)
    assert rate_between(bursts, 2.5, 8.5) == pytest.approx(100)
    with pytest.raises(RuntimeError, match="do not reach"):
        rate_between(bursts, 2, 20)


def test_overload_counts_what_was_answered_in_the_window_and_what_was_sent_in_it() -> None:
    outcomes = [
        # Sent before the window, answered in it: goodput, no share.
        Outcome(Fate.ANSWERED, sent=2.5, seconds=0.9, texts=32),
        Outcome(Fate.ANSWERED, sent=4.0, seconds=0.5, texts=32),
        Outcome(Fate.ANSWERED, sent=5.0, seconds=0.5, texts=32),
        Outcome(Fate.LATE, sent=6.0, seconds=1.0),
        *(Outcome(Fate.REFUSED, sent=6.0, seconds=0.002) for _ in range(9)),
        Outcome(Fate.REFUSED, sent=7.0, seconds=0.020),
        # Answered after the window.
        Outcome(Fate.ANSWERED, sent=12.5, seconds=0.9, texts=32),
        # Before it.
        Outcome(Fate.LATE, sent=1.0, seconds=1.0),
    ]
    found = Overload.of(outcomes, start=3.0, end=13.0)
    assert found.texts_per_second == pytest.approx(9.6)
    assert found.late_share == pytest.approx(1 / 4)
    assert found.refused_share == pytest.approx(10 / 14)
    assert found.refusal_p50_seconds == pytest.approx(0.002)
    assert found.refusal_p99_seconds == pytest.approx(0.020)


def test_without_refusals_it_was_no_overload() -> None:
    with pytest.raises(RuntimeError, match="no overload"):
        Overload.of([Outcome(Fate.ANSWERED, 4.0, 0.5, 32)], 3.0, 13.0)


def test_arithmetic_of_a_model() -> None:
    small = ModelArithmetic(layers=6, hidden=384, intermediate=1536)
    # 10.6 million weights in products, each multiplied and added once a token.
    assert small.flops(1) == 2 * 6 * (12 * 384**2 + 2 * 384)
    assert small.flops(128) / 128 == pytest.approx(22.4e6, rel=0.01)
    assert small.total_flops([1, 1, 128]) == 2 * small.flops(1) + small.flops(128)


def test_the_gap_to_the_peak_is_divided_without_rest() -> None:
    run = EngineRun(np.zeros((10, 4), np.float32), 10.0, 1.0, tokens=100, padded_tokens=125)
    gap = Gap.of(run, run_flops=36.0, full_flops=60.0, peak=100.0)
    assert gap.engine == pytest.approx(0.36)
    assert gap.tokenizing == pytest.approx(0.04)
    assert gap.padding == pytest.approx(0.10)
    assert gap.shapes == pytest.approx(0.10)
    assert gap.graph == pytest.approx(0.40)


def test_the_lowest_cosine_is_of_directions() -> None:
    rows = np.array([[1, 0], [0, 2]], np.float32)
    assert min_cosine(rows, np.array([[3, 0], [0, 1]], np.float32)) == pytest.approx(1)
    assert min_cosine(rows, np.array([[1, 0], [1, 1]], np.float32)) == pytest.approx(0.5**0.5)
