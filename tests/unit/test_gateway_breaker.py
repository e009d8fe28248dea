"""The circuit breaker of a tier, and the budget of extra calls."""

from itertools import pairwise

import pytest

from gateway.backends.allowance import Allowance
from gateway.backends.breaker import Breaker
from sirdar.errors import Unavailable

AWAY = Unavailable("away")


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock, jitter=lambda: 1.0)
    for _ in range(5):
        breaker.failed(AWAY)
    return breaker


def test_it_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(AWAY)
    assert not breaker.open and breaker.lets_through()
    breaker.failed(AWAY)
    assert breaker.open and not breaker.lets_through()
    assert breaker.last is AWAY


def test_failures_between_successes_do_not_open_it_while_they_are_few() -> None:
    breaker = Breaker()
    for _ in range(200):
        breaker.failed(AWAY)
        for _ in range(3):
            breaker.succeeded()
    assert not breaker.open


def test_a_tier_that_flaps_opens_it() -> None:
    breaker = Breaker()
    for _ in range(60):
        breaker.failed(AWAY)
        breaker.failed(AWAY)
        if breaker.open:
            break
        breaker.succeeded()
    else:
        pytest.fail("two failures of three calls never opened it")


def test_one_call_goes_through_at_the_end_of_each_pause() -> None:
    clock = Clock()
    breaker = opened(clock)
    passed = []
    for _ in range(200):
        clock.seconds += 0.01
        if breaker.lets_through():
            passed.append(round(clock.seconds - 100, 2))
    gaps = [later - earlier for earlier, later in pairwise(passed)]
    # 0.1 s, 0.2 s, 0.4 s, then 0.5 s: who is back is used within that, however long it was away.
    assert passed[0] == pytest.approx(0.1, abs=0.011)
    assert max(gaps) <= 0.52 and len(passed) >= 5


def test_a_probe_that_succeeds_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.seconds += 1
    assert breaker.lets_through() and not breaker.lets_through()
    breaker.succeeded()
    assert not breaker.open and breaker.lets_through()
    # What was before is forgotten: one failure does not open it again.
    breaker.failed(AWAY)
    assert not breaker.open


def test_a_probe_that_fails_keeps_it_open_and_says_why() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.seconds += 1
    assert breaker.lets_through()
    now = Unavailable("still away")
    breaker.failed(now)
    assert breaker.open and not breaker.lets_through()
    assert breaker.last is now


def test_gateways_do_not_probe_in_step() -> None:
    clock = Clock()
    early, late = Breaker(clock, lambda: 0.8), Breaker(clock, lambda: 1.2)
    for _ in range(5):
        early.failed(AWAY)
        late.failed(AWAY)
    clock.seconds += 0.1
    assert early.probe_due and not late.probe_due


def test_extra_calls_are_a_share_of_the_calls() -> None:
    allowance = Allowance(0.1, saved=3)
    spent = 0
    for _ in range(1000):
        allowance.earn()
        spent += allowance.spend()
    assert 100 <= spent <= 103


def test_what_is_saved_is_bounded() -> None:
    allowance = Allowance(0.5, saved=3)
    for _ in range(1000):
        allowance.earn()
    assert [allowance.spend() for _ in range(5)] == [True, True, True, False, False]
