"""How the semantic cache judges itself."""

import random

import pytest

from gateway.cache.quality import HitQuality, estimate


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def quality(clock: Clock, floor: float = 0.9) -> HitQuality:
    return HitQuality(floor, 0.05, now=clock, draw=lambda: 0.5)


def test_an_interval_holds_what_it_is_of() -> None:
    assert (estimate(0, 0).low, estimate(0, 0).high) == (0.0, 1.0)
    seen = estimate(5, 50)
    # Wilson's for 5 of 50.
    assert (seen.share, round(seen.low, 4), round(seen.high, 4)) == (0.1, 0.0435, 0.2136)
    assert estimate(0, 40).low == pytest.approx(0.0)
    assert estimate(40, 40).high == pytest.approx(1.0)


def test_the_first_hits_are_all_searched_for_real_and_then_a_share() -> None:
    draws = iter([0.04, 0.06])
    judged = HitQuality(0.9, 0.05, draw=lambda: next(draws))
    assert [judged.samples() for _ in range(42)] == [True] * 41 + [False]


def test_it_goes_on_while_enough_hits_are_true() -> None:
    judged = quality(Clock())
    for number in range(400):
        judged.note(0.5 if number % 12 == 0 else 1.0)
    assert judged.serving
    assert judged.estimate.share == pytest.approx(34 / 400)


def test_a_hit_is_false_below_four_fifths() -> None:
    judged = quality(Clock())
    judged.note(0.8)
    assert judged.estimate.share == 0.0
    judged.note(0.79)
    assert judged.estimate.share == 0.5


def test_it_turns_off_below_the_floor_and_on_again_after_a_pause_that_grows() -> None:
    clock = Clock()
    judged = quality(clock)
    for _ in range(19):
        judged.note(0.0)
    # Fewer than 20 say nothing.
    assert judged.serving
    judged.note(0.0)
    assert not judged.serving
    for _ in range(30):
        judged.note(1.0)
    assert not judged.serving, "the pause is not over"
    clock.seconds = 61
    judged.note(1.0)
    assert judged.serving
    for _ in range(20):
        judged.note(0.0)
    assert not judged.serving
    for _ in range(20):
        judged.note(1.0)
    clock.seconds = 61 + 119
    judged.note(1.0)
    assert not judged.serving, "the second pause is twice as long"
    clock.seconds = 61 + 121
    judged.note(1.0)
    assert judged.serving


def test_it_stays_off_while_what_it_would_answer_is_false() -> None:
    clock = Clock()
    judged = quality(clock)
    for _ in range(20):
        judged.note(0.0)
    clock.seconds = 61
    for _ in range(20):
        judged.note(0.5)
    assert not judged.serving


def test_looking_after_each_hit_seldom_turns_off_what_is_just_good_enough() -> None:
    draw = random.Random(1)
    off = 0
    for _ in range(200):
        judged = quality(Clock())
        for _ in range(400):
            judged.note(0.0 if draw.random() < 0.1 else 1.0)
            if not judged.serving:
                off += 1
                break
    # An interval looked at 400 times turns off 24 of them.
    assert off <= 10


def test_what_was_good_for_long_is_still_turned_off() -> None:
    judged = quality(Clock())
    for _ in range(500):
        judged.note(1.0)
    for _ in range(200):
        judged.note(0.0)
    assert not judged.serving


def test_the_ends_of_the_floor_are_kept() -> None:
    none_false, all_false = quality(Clock(), floor=1.0), quality(Clock(), floor=0.0)
    for number in range(30):
        none_false.note(1.0)
        all_false.note(0.0)
        assert none_false.serving and all_false.serving, number
    none_false.note(0.0)
    assert not none_false.serving
