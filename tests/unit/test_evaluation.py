"""nDCG against values worked out by hand."""

import math

import pytest

from lab.evaluation import ndcg


def test_a_perfect_ranking_is_one() -> None:
    assert ndcg(["a", "b", "c"], {"a": 3, "b": 1}, 10) == 1.0


def test_gain_is_linear_and_discounted_by_rank() -> None:
    # DCG = 1/log2(2) + 3/log2(4); best = 3/log2(2) + 1/log2(3).
    expected = (1 + 3 / 2) / (3 + 1 / math.log2(3))
    assert ndcg(["b", "x", "a"], {"a": 3, "b": 1}, 10) == pytest.approx(expected)


def test_what_stands_below_k_does_not_count() -> None:
    assert ndcg(["x", "y", "a"], {"a": 1}, 2) == 0.0


def test_without_judgements_it_is_zero() -> None:
    assert ndcg(["a"], {}, 10) == 0.0
