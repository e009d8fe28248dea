"""Live recall's arithmetic: its interval, who is sampled, and how much CPU it takes."""

import random

import numpy as np
import pytest

from services.retriever.recall.budget import CpuBudget
from services.retriever.recall.interval import mean_interval
from services.retriever.recall.sampler import Sampler


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    source = np.random.default_rng(5)
    for mean in (0.5, 0.9, 0.98):
        missed = 0
        for _ in range(400):
            chances = source.beta(6 * mean, 6 * (1 - mean), 50)
            low, high = mean_interval(source.binomial(10, chances) / 10, confidence=0.9)
            missed += not low <= mean <= high
        assert missed <= 40


def test_the_interval_is_as_narrow_as_the_values_allow() -> None:
    source = np.random.default_rng(6)
    values = source.binomial(10, source.beta(5.7, 0.3, 2000)) / 10
    low, high = mean_interval(values)
    normal = 2 * 3.29 * values.std() / 2000**0.5
    assert high - low < 1.4 * normal
    # Clopper and Pearson's is 0.9962.
    low, high = mean_interval(np.ones(2000))
    assert (low > 0.995, high) == (True, 1.0)
    # Nothing is certain because a few went well, or all went wrong.
    assert mean_interval(np.ones(3))[0] < 0.5
    assert mean_interval(np.zeros(20))[0] == pytest.approx(0, abs=1e-6)
    assert mean_interval(np.empty(0)) == (0.0, 1.0)


def test_each_query_is_sampled_alike_wherever_it_is_in_its_batch() -> None:
    source = random.Random(7)
    sampler = Sampler(source.random)
    sampler.adjust(0.05)
    taken = np.zeros(32)
    offered = np.zeros(32)
    for _ in range(20_000):
        size = source.choice((1, 2, 32))
        offered[:size] += 1
        taken[list(sampler.take(size))] += 1
    assert sampler.seen == offered.sum()
    expected = offered * 0.05
    assert (np.abs(taken - expected) < 4.5 * np.sqrt(expected * 0.95)).all()


def test_no_more_cpu_is_taken_than_the_share_of_what_has_passed() -> None:
    wall, cpu = [100.0], [7.0]
    budget = CpuBudget(0.02, 10, wall=lambda: wall[0], cpu=lambda: cpu[0])
    source = random.Random(8)
    most = 0.0
    for _ in range(2000):
        delay = budget.delay_seconds(0.005)
        if delay > 0:
            wall[0] += delay
        else:
            # Steps do not always cost what is said of them.
            step = source.choice((0.0001, 0.004, 0.02))
            cpu[0] += step
            wall[0] += step
        most = max(most, (cpu[0] - 7) - 0.02 * (wall[0] - 100))
        if source.random() < 0.01:
            wall[0] += 1000
    assert most < 0.02
    # What was saved up in the last thousand seconds is ten seconds' worth.
    wall[0] += 1000
    spent_before = cpu[0]
    while budget.delay_seconds(0.005) == 0:
        cpu[0] += 0.005
    assert cpu[0] - spent_before == pytest.approx(0.2, abs=0.011)
