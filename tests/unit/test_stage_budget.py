"""How a caller's deadline is split over the stages of a search."""

from collections.abc import Iterator

import pytest

from gateway.recent_seconds import RecentSeconds
from gateway.rerank_cost import RerankCost
from gateway.stage_budget import StageBudget
from services.runtime.deadline import set_deadline
from sirdar.errors import DeadlineExceeded
from sirdar.v1 import common_pb2

EMBED, RETRIEVE = common_pb2.STAGE_EMBED, common_pb2.STAGE_RETRIEVE
RERANK, HIGHLIGHT = common_pb2.STAGE_RERANK, common_pb2.STAGE_HIGHLIGHT
LATER = (RETRIEVE, RERANK, HIGHLIGHT)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def no_deadline() -> Iterator[None]:
    yield
    set_deadline(None)


def measured(clock: Clock | None = None, **seconds: float) -> StageBudget:
    budget = StageBudget(clock or Clock())
    for name, each in seconds.items():
        for _ in range(40):
            budget.observe(getattr(common_pb2, f"STAGE_{name.upper()}"), each)
    return budget


def about(seconds: float) -> object:
    """The deadline runs while the test does."""
    return pytest.approx(seconds, abs=0.1)


def test_without_a_deadline_a_stage_gets_its_limit() -> None:
    budget = measured(embed=60.0, retrieve=60.0)
    assert budget.limit_seconds(EMBED, 10.0, later=LATER) == 10.0
    assert budget.limit_seconds(RERANK, 2.0) == 2.0


def test_time_is_kept_for_the_stages_that_come_after() -> None:
    budget = measured(retrieve=2.0, rerank=3.0, highlight=1.0)
    set_deadline(20.0)
    assert budget.limit_seconds(EMBED, 60.0, later=LATER) == about(20 - 2 - 3 - 1)
    assert budget.limit_seconds(EMBED, 60.0, later=(RETRIEVE,)) == about(18)
    assert budget.limit_seconds(EMBED, 5.0, later=LATER) == 5.0


def test_time_is_kept_for_an_optional_stage_only_where_it_fits() -> None:
    budget = measured(retrieve=4.0, rerank=30.0, highlight=1.0)
    set_deadline(10.0)
    assert budget.limit_seconds(EMBED, 60.0, later=LATER) == about(10 - 4 - 1)
    budget = measured(retrieve=8.0, rerank=30.0, highlight=9.0)
    set_deadline(10.0)
    assert budget.limit_seconds(RETRIEVE, 60.0, later=(RERANK, HIGHLIGHT)) == about(10)


def test_a_stage_that_is_needed_gets_half_however_slow_the_next_is() -> None:
    budget = measured(retrieve=60.0)
    set_deadline(10.0)
    assert budget.limit_seconds(EMBED, 60.0, later=(RETRIEVE,)) == about(5)


def test_an_optional_stage_that_cannot_fit_is_skipped() -> None:
    budget = measured(rerank=3.0, embed=3.0, retrieve=2.0)
    set_deadline(4.0)
    assert budget.limit_seconds(RERANK, 60.0) == about(3.2)
    set_deadline(3.0)
    assert budget.limit_seconds(RERANK, 60.0) == 0.0
    # A hybrid search can do without its vector; a search by meaning alone cannot.
    assert budget.limit_seconds(EMBED, 60.0, later=(RETRIEVE,), optional=True) == 0.0
    assert budget.limit_seconds(EMBED, 60.0, later=(RETRIEVE,)) > 0


def test_a_stage_that_is_slow_beyond_its_limit_is_not_skipped_for_want_of_time() -> None:
    """Its tier's circuit breaker says when to leave it alone, and finds it again at once."""
    budget = measured(rerank=30.0)
    set_deadline(60.0)
    assert budget.limit_seconds(RERANK, 2.0) == 2.0


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_no_time_at_all_is_an_error_of_its_own(seconds: float) -> None:
    set_deadline(seconds)
    with pytest.raises(DeadlineExceeded) as refused:
        StageBudget().limit_seconds(RETRIEVE, 10.0)
    assert refused.value.reason == "DEADLINE_EXCEEDED"
    assert StageBudget().limit_seconds(RERANK, 10.0) == 0.0


def test_a_stage_that_was_given_up_is_tried_again_once_a_second() -> None:
    clock = Clock()
    budget = measured(clock, highlight=30.0)
    set_deadline(10.0)
    assert budget.limit_seconds(HIGHLIGHT, 60.0) == 0.0
    clock.seconds += 1.1
    assert budget.limit_seconds(HIGHLIGHT, 60.0) > 0
    assert budget.limit_seconds(HIGHLIGHT, 60.0) == 0.0
    # It is fast again: what it took before says nothing any more.
    budget.observe(HIGHLIGHT, 0.1)
    assert budget.limit_seconds(HIGHLIGHT, 60.0) > 0


def test_what_was_cut_off_needs_more_than_it_had() -> None:
    budget = StageBudget(Clock())
    set_deadline(10.0)
    allowed = budget.limit_seconds(RERANK, 60.0)
    budget.observe(RERANK, allowed, cut_off=True)
    assert budget.limit_seconds(RERANK, 60.0) == 0.0


def test_as_many_passages_are_reranked_as_there_is_time_for() -> None:
    budget = StageBudget(Clock())
    assert budget.passages_that_fit(100, 0.01) == 100
    for passages in (10, 30, 100) * 5:
        budget.observe_rerank(passages, 0.02 + 0.01 * passages)
    assert budget.passages_that_fit(100, 5.0) == 100
    assert budget.passages_that_fit(100, 0.5) == pytest.approx(48, abs=2)
    # One passage has no order.
    budget.observe(RERANK, 1.0)
    assert budget.passages_that_fit(100, 0.035) == 0
    assert budget.passages_that_fit(100, 0.0) == 0


def test_a_rerank_that_can_be_shrunk_is_not_skipped() -> None:
    budget = measured(rerank=30.0)
    budget.observe_rerank(100, 30.0)
    set_deadline(10.0)
    allowed = budget.limit_seconds(RERANK, 60.0)
    assert allowed == about(8)
    assert 20 <= budget.passages_that_fit(100, allowed) <= 30


def test_the_cost_of_reranking_follows_what_it_takes_now() -> None:
    cost = RerankCost()
    assert cost.passages_within(1.0) is None
    for passages in (5, 20, 50) * 20:
        cost.observe(passages, 0.01 * passages)
    assert cost.passages_within(1.0) == pytest.approx(100, abs=5)
    for passages in (5, 20, 50) * 100:
        cost.observe(passages, 0.05 * passages)
    assert cost.passages_within(1.0) == pytest.approx(18, abs=3)


def test_calls_that_vary_leave_room() -> None:
    steady, varying = RerankCost(), RerankCost()
    for at in range(100):
        steady.observe(20, 0.2)
        varying.observe(20, 0.1 if at % 2 else 0.3)
    least, most = varying.passages_within(1.0), steady.passages_within(1.0)
    assert least is not None and most is not None and least < most


def test_quantiles_are_those_of_the_last_observations() -> None:
    recent = RecentSeconds(100)
    assert recent.quantile(0.95) == 0.0
    for at in range(250):
        recent.observe(float(at))
    assert len(recent) == 100
    assert recent.quantile(0.5) == 200.0
    assert recent.quantile(0.95) == 245.0
    assert recent.quantile(1.0) == 249.0
