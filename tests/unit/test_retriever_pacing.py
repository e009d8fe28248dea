"""Writers wait while searches have much to compare with, and only then."""

import time

import pytest

from services.retriever.pacing import WritePace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_nobody_waits_without_searches(clock: list[float]) -> None:
    pace = WritePace()
    assert pace.delay_seconds(10**9) == 0.0
    pace.searched()
    assert pace.delay_seconds(10**9) > 0.0
    clock[0] += 2.0
    assert pace.delay_seconds(10**9) == 0.0


def test_the_wait_grows_with_what_is_not_sealed_and_is_bounded(clock: list[float]) -> None:
    pace = WritePace()
    pace.searched()
    waits = [pace.delay_seconds(rows * 384) for rows in (0, 40_000, 50_000, 60_000, 10**7)]
    assert waits[:2] == [0.0, 0.0]
    assert 0.0 < waits[2] < waits[3] < waits[4] == 1.0
