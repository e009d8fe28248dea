"""Two lists of candidates become one order of passages, and passages documents."""

import math
from collections.abc import Sequence

import pytest

from gateway.pipeline.documents import collapse
from gateway.pipeline.fusion import (
    FusionMethod,
    FusionPlan,
    SearchMode,
    mode_of,
    plan_fusion,
    ranked,
)
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2, retriever_pb2

RECIPROCAL = FusionPlan(FusionMethod.RECIPROCAL_RANK, 1.0, 1.0, 60.0)
WEIGHTED = FusionPlan(FusionMethod.WEIGHTED_SCORES, 1.0, 1.0, 60.0)

List = Sequence[tuple[int, float]]


def candidates(
    dense: List, lexical: List, documents: str = "abcd"
) -> retriever_pb2.PassageCandidates:
    found = retriever_pb2.PassageCandidates()
    for identity in documents:
        found.passages.add(document_id=identity, text=f"{identity}!")
    for passage, score in dense:
        found.dense.add(passage=passage, score=score)
    for passage, score in lexical:
        found.lexical.add(passage=passage, score=score)
    return found


DENSE: List = ((0, 0.5), (1, 0.25), (2, 0.125))
LEXICAL: List = ((3, 8.0), (1, 6.0), (0, 4.0))


def order(plan: FusionPlan, mode: SearchMode = SearchMode.HYBRID) -> list[tuple[int, float]]:
    found = ranked(candidates(DENSE, LEXICAL), mode, plan)
    return [(item.passage, round(item.score, 6)) for item in found]


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


def test_one_list_alone_keeps_its_order_and_its_scores() -> None:
    assert order(RECIPROCAL, SearchMode.DENSE) == list(DENSE)
    assert order(RECIPROCAL, SearchMode.LEXICAL) == list(LEXICAL)


@pytest.mark.parametrize("plan", [RECIPROCAL, WEIGHTED])
def test_empty_and_equal_lists_are_no_trouble(plan: FusionPlan) -> None:
    assert ranked(candidates((), ()), SearchMode.HYBRID, plan) == []
    found = ranked(candidates(((1, 0.5), (0, 0.5)), ()), SearchMode.HYBRID, plan)
    assert [item.passage for item in found] == [1, 0]
    assert all(math.isfinite(item.score) and item.score > 0 for item in found)


def test_a_passage_has_the_scores_of_the_lists_that_have_it() -> None:
    found = {
        item.passage: (item.similarity, item.lexical_score)
        for item in ranked(candidates(DENSE, LEXICAL), SearchMode.HYBRID, RECIPROCAL)
    }
    assert found == {0: (0.5, 4.0), 1: (0.25, 6.0), 2: (0.125, None), 3: (None, 8.0)}


def test_documents_are_ranked_by_their_best_passage_and_shown_by_one_with_text() -> None:
    found = candidates(((0, 0.9), (1, 0.8), (2, 0.7)), (), documents="aab")
    found.passages[0].text = ""
    ordered = ranked(found, SearchMode.DENSE, RECIPROCAL)
    first, second = collapse(found.passages, ordered, 5)
    assert (first.passage.document_id, first.passage.text) == ("a", "a!")
    assert first.score == pytest.approx(0.9)
    assert first.similarity == pytest.approx(0.8)
    assert first.matched_passages == 2
    assert (second.passage.document_id, second.retriever_rank) == ("b", 2)
    assert len(collapse(found.passages, ordered, 1)) == 1


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
