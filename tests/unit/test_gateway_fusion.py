"""Several lists of candidates become one order of passages."""

import math
from collections.abc import Sequence

import pytest

from gateway.pipeline.fusion import fuse
from gateway.pipeline.fusion_plan import (
    FusionMethod,
    FusionPlan,
    mode_of,
    plan_fusion,
)
from gateway.pipeline.ranking import Ranking
from gateway.pipeline.stages import Fuse, Unit
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2

RECIPROCAL = FusionPlan(FusionMethod.RECIPROCAL_RANK, 1.0, 1.0, 60.0)
WEIGHTED = FusionPlan(FusionMethod.WEIGHTED_SCORES, 1.0, 1.0, 60.0)

List = Sequence[tuple[int, float]]
DENSE: List = ((0, 0.5), (1, 0.25), (2, 0.125))
LEXICAL: List = ((3, 8.0), (1, 6.0), (0, 4.0))


def by_meaning(scores: List) -> Ranking:
    return Ranking(Unit.PASSAGES, dict(scores), similarities=dict(scores))


def by_words(scores: List) -> Ranking:
    return Ranking(Unit.PASSAGES, dict(scores), lexical_scores=dict(scores))


def fused(plan: FusionPlan, dense: List = DENSE, lexical: List = LEXICAL) -> Ranking:
    stage = Fuse(plan.method, (plan.dense_weight, plan.lexical_weight), plan.rank_constant)
    return fuse([by_meaning(dense), by_words(lexical)], stage)


def order(plan: FusionPlan) -> list[tuple[int, float]]:
    return [(passage, round(score, 6)) for passage, score in fused(plan).scores.items()]


def test_reciprocal_rank_adds_what_each_rank_is_worth() -> None:
    assert order(RECIPROCAL) == [
        (0, round(1 / 61 + 1 / 63, 6)),
        (1, round(1 / 62 + 1 / 62, 6)),
        (3, round(1 / 61, 6)),
        (2, round(1 / 63, 6)),
    ]


def test_weighted_scores_are_normalised_a_list() -> None:
    assert order(WEIGHTED) == [
        (0, 1.0),
        (3, 1.0),
        (1, round(1 / 3 + 0.5, 6)),
        (2, 0.0),
    ]


@pytest.mark.parametrize("method", list(FusionMethod))
def test_a_weight_of_zero_leaves_the_order_to_the_other_list(method: FusionMethod) -> None:
    dense = order(FusionPlan(method, 1.0, 0.0, 60.0))
    assert [passage for passage, _ in dense][:2] == [0, 1]
    lexical = order(FusionPlan(method, 0.0, 1.0, 60.0))
    assert [passage for passage, _ in lexical][:2] == [3, 1]


@pytest.mark.parametrize("plan", [RECIPROCAL, WEIGHTED])
def test_empty_and_equal_lists_are_no_trouble(plan: FusionPlan) -> None:
    assert not fused(plan, (), ()).scores
    found = fused(plan, ((1, 0.5), (0, 0.5)), ())
    assert list(found.scores) == [1, 0]
    assert all(math.isfinite(score) and score > 0 for score in found.scores.values())


def test_a_passage_has_the_scores_of_the_lists_that_have_it() -> None:
    found = fused(RECIPROCAL)
    known = {
        passage: (found.similarities.get(passage), found.lexical_scores.get(passage))
        for passage in found.scores
    }
    assert known == {0: (0.5, 4.0), 1: (0.25, 6.0), 2: (0.125, None), 3: (None, 8.0)}


def test_three_lists_have_a_weight_each_and_the_higher_similarity_counts() -> None:
    stage = Fuse(FusionMethod.RECIPROCAL_RANK, (1.0, 2.0, 0.0), 1.0)
    third = by_meaning(((2, 0.75), (4, 0.5)))
    found = fuse([by_meaning(DENSE), by_words(LEXICAL), third], stage)
    # Of 1 / (1 + rank): 0 is 1 and 3, 1 is 2 and 2, 2 is 3, 3 is 1, 4 counts for nothing.
    assert found.scores == pytest.approx(
        {0: 1 / 2 + 2 / 4, 1: 1 / 3 + 2 / 3, 2: 1 / 4, 3: 2 / 2, 4: 0.0}
    )
    assert list(found.scores) == [0, 1, 3, 2, 4]
    assert found.similarities == {0: 0.5, 1: 0.25, 2: 0.75, 4: 0.5}


def test_what_a_request_leaves_out_is_as_the_server_is_set() -> None:
    default = GatewaySettings(fusion_lexical_weight=0.25).fusion
    assert plan_fusion(query_pb2.Fusion(), default) == default
    message = query_pb2.Fusion(
        method=query_pb2.FUSION_METHOD_WEIGHTED_SCORES, dense_weight=0, rank_constant=1
    )
    assert plan_fusion(message, default) == FusionPlan(FusionMethod.WEIGHTED_SCORES, 0.0, 0.25, 1.0)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (query_pb2.Fusion(dense_weight=-1), "dense_weight"),
        (query_pb2.Fusion(lexical_weight=math.nan), "lexical_weight"),
        (query_pb2.Fusion(lexical_weight=math.inf), "lexical_weight"),
        (query_pb2.Fusion(dense_weight=1e308, lexical_weight=1e308), "dense_weight"),
        (query_pb2.Fusion(dense_weight=0, lexical_weight=0), "dense_weight"),
        (query_pb2.Fusion(rank_constant=0.5), "rank_constant"),
        (query_pb2.Fusion(method=9), "method"),  # type: ignore[arg-type]
    ],
)
def test_bad_fusion_is_named(message: query_pb2.Fusion, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        plan_fusion(message, RECIPROCAL)
    assert [item.field for item in refused.value.fields] == [f"fusion.{field}"]


def test_an_unknown_mode_is_named() -> None:
    assert mode_of(query_pb2.SEARCH_MODE_UNSPECIFIED) is None
    with pytest.raises(InvalidArgument) as refused:
        mode_of(9)  # type: ignore[arg-type]
    assert [item.field for item in refused.value.fields] == ["mode"]


def test_settings_that_leave_nothing_to_fuse_are_refused() -> None:
    with pytest.raises(ValueError, match="both be 0"):
        GatewaySettings(fusion_dense_weight=0, fusion_lexical_weight=0)
