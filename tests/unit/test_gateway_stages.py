"""Each stage of a search on lists small enough to be worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.pipeline.collapse import collapse
from gateway.pipeline.cut import cut
from gateway.pipeline.diversity import diversify, marginal_relevance
from gateway.pipeline.grouping import count_groups, group
from gateway.pipeline.merge import merge
from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.rerank import fuse_logits
from gateway.pipeline.rerank_plan import RerankPlan
from gateway.pipeline.stages import Cut, Group, Threshold, Unit
from gateway.vectors import unit_rows
from sirdar.errors import InvalidArgument
from sirdar.v1 import document_pb2
from tests.pipeline_data import passage, pool_of, ranking


def words(scores: dict[int, float]) -> Ranking:
    return Ranking(Unit.PASSAGES, scores, lexical_scores=scores)


def test_documents_are_ranked_by_their_best_passage_and_shown_by_one_with_text() -> None:
    pool = pool_of(passage("a", 0, text=""), passage("a", 1), passage("b"))
    found = collapse(pool, ranking([0.9, 0.8, 0.7], Unit.PASSAGES), 1, 5)
    assert found.unit is Unit.DOCUMENTS
    assert found.scores == {1: 0.9, 2: 0.7}
    assert found.matched == {1: 2, 2: 1}
    assert found.similarities[1] == 0.8
    assert list(collapse(pool, ranking([0.9, 0.8, 0.7], Unit.PASSAGES), 1, 1).scores) == [1]


def test_the_mean_of_the_best_counts_what_is_missing_as_the_lowest_score() -> None:
    pool = pool_of(passage("a"), passage("b"), passage("b", 1), passage("a", 1), passage("c"))
    found = collapse(pool, ranking([1.0, 0.9, 0.8, 0.2, 0.1], Unit.PASSAGES), 2, 5)
    # a: (1.0 + 0.2) / 2, b: (0.9 + 0.8) / 2, c: (0.1 + 0.1) / 2.
    assert found.scores == pytest.approx({1: 0.85, 0: 0.6, 4: 0.1})
    assert list(found.scores) == [1, 0, 4]
    three = collapse(pool, ranking([1.0, 0.9, 0.8, 0.2, 0.1], Unit.PASSAGES), 3, 5)
    assert three.scores[1] == pytest.approx((0.9 + 0.8 + 0.1) / 3)


def test_documents_of_reranked_passages_remember_the_order_before() -> None:
    pool = pool_of(passage("a"), passage("b"), passage("a", 1))
    reranked = ranking([0.9, 0.8, 0.7], Unit.PASSAGES).reordered({2: 3.0, 1: 2.0, 0: 1.0})
    found = collapse(pool, reranked, 1, 5)
    assert list(found.scores) == [2, 1]
    assert list(found.order_before) == [2, 1]
    other = ranking([0.9, 0.8, 0.7], Unit.PASSAGES).reordered({1: 3.0, 2: 2.0, 0: 1.0})
    assert list(collapse(pool, other, 1, 5).scores) == [1, 2]
    assert list(collapse(pool, other, 1, 5).order_before) == [2, 1]


def value(text: str) -> document_pb2.MetadataValue:
    return document_pb2.MetadataValue(string_value=text)


GROUPED = pool_of(
    passage("a", metadata={"kind": value("x")}),
    passage("b", metadata={"kind": value("y")}),
    passage("c"),
    passage("d", metadata={"kind": value("x")}),
    passage(
        "e",
        metadata={
            "kind": document_pb2.MetadataValue(
                string_list=document_pb2.StringList(values=["y", "x"])
            )
        },
    ),
    passage("f", metadata={"kind": value("x")}),
    passage("g", metadata={"kind": document_pb2.MetadataValue(double_value=1.5)}),
    passage("h", metadata={"kind": document_pb2.MetadataValue(int64_value=7)}),
)
SCORES = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_groups_come_in_the_order_of_their_best_with_so_many_results_each() -> None:
    found = group(GROUPED, ranking(SCORES), Group("kind", 2))
    assert found.groups is not None
    assert [(one.value.WhichOneof("kind"), one.members) for one in found.groups] == [
        ("string_value", (0, 3)),
        ("string_value", (1, 4)),
        ("int64_value", (7,)),
    ]
    assert list(found.scores) == [0, 3, 1, 4, 7]
    assert list(found.order_before) == list(range(8))
    assert count_groups(GROUPED, ranking(SCORES), "kind") == 3
    assert not group(GROUPED, ranking(SCORES), Group("year", 1)).scores
    # Looking for a field adds it to no document.
    assert "kind" not in GROUPED.passages[2].metadata


def test_a_cut_keeps_the_best_that_meet_the_threshold() -> None:
    found = ranking(SCORES)
    assert list(cut(found, Cut(limit=2)).scores) == [0, 1]
    assert list(cut(found, Cut(threshold=Threshold(score=0.4))).scores) == [0, 1, 2, 3, 4]
    both = Cut(1, Threshold(similarity=0.7, score=0.1))
    assert list(cut(found, both).scores) == [0]
    # What lacks a score is below every threshold on it.
    assert not cut(found, Cut(threshold=Threshold(lexical_score=-100.0))).scores


def test_a_threshold_on_reranking_waits_for_it() -> None:
    stage = Cut(threshold=Threshold(rerank_score=1.0))
    assert len(cut(ranking(SCORES), stage)) == len(SCORES)
    reranked = fuse_logits(ranking([0.3, 0.2, 0.1]), [0, 1], {0: 0.5, 1: 2.0}, PLAN)
    assert list(cut(reranked, stage).scores) == [1]


def test_a_field_of_floating_point_numbers_makes_no_groups() -> None:
    pool = pool_of(
        passage("a"), passage("b", metadata={"x": document_pb2.MetadataValue(double_value=1.5)})
    )
    with pytest.raises(InvalidArgument, match="floating-point") as refused:
        group(pool, ranking([0.9, 0.8]), Group("x", 1), "stages[2].group.grouping")
    assert refused.value.fields[0].field == "stages[2].group.grouping.field"


def test_a_cut_of_groups_counts_groups_and_drops_empty_ones() -> None:
    found = group(GROUPED, ranking(SCORES), Group("kind", 2))
    assert list(cut(found, Cut(limit=1)).scores) == [0, 3]
    left = cut(found, Cut(threshold=Threshold(score=0.45)))
    assert left.groups is not None
    assert [one.members for one in left.groups] == [(0, 3), (1,)]


PLAN = RerankPlan(10, 1.0, 0.0)


def test_what_was_not_reranked_follows_in_its_order() -> None:
    found = fuse_logits(ranking([0.9, 0.8, 0.7, 0.6]), [0, 1, 2], {1: 5.0, 2: 1.0}, PLAN)
    assert list(found.scores) == [1, 0, 2, 3]
    scores = list(found.scores.values())
    assert scores == sorted(scores, reverse=True)
    assert dict(found.rerank_scores) == {1: 5.0, 2: 1.0}


def unit(*angles: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[math.cos(one), math.sin(one)] for one in angles], dtype=np.float32)


def order(scores: Sequence[float], angles: Sequence[float], relevance: float) -> list[int]:
    picked = marginal_relevance(np.array(scores), unit(*angles), relevance)
    return [place for place, _, _ in picked]


def test_the_next_result_is_relevant_and_unlike_those_before() -> None:
    # 0 and 1 are the same direction, 2 stands across.
    assert order([1.0, 0.9, 0.8, 0.0], [0, 0, math.pi / 2, 0.1], 0.5) == [0, 2, 1, 3]
    assert order([1.0, 0.9, 0.8, 0.0], [0, 0, math.pi / 2, 0.1], 1.0) == [0, 1, 2, 3]
    picked = marginal_relevance(np.array([1.0, 0.5, 0.0]), unit(0, 0, math.pi / 2), 0.5)
    # After 0: 1 is worth 0.25 - 0.5, 2 is worth 0 - 0.
    assert [place for place, _, _ in picked] == [0, 2, 1]
    assert picked[2][1:] == pytest.approx((0.5, 1.0))
    assert order([1.0, 1.0], [0, 1], 0.0)[0] == 0


async def test_diversifying_needs_every_vector_in_one_space() -> None:
    pool = pool_of(*(passage(str(at), vector=(1.0, float(at))) for at in range(3)))
    found = await diversify(pool, ranking([0.9, 0.8, 0.1]), 0.7, 2)
    assert found is not None
    # The third is beyond the depth: it stays behind.
    assert list(found.scores) == [0, 1, 2]
    scores = list(found.scores.values())
    assert scores == sorted(scores, reverse=True)
    without = pool_of(passage("a", vector=(1.0, 0.0)), passage("b"))
    assert await diversify(without, ranking([0.9, 0.8]), 0.7, 2) is None


async def test_many_results_are_diversified_as_few_are() -> None:
    rng = np.random.default_rng(5)
    angles = rng.uniform(0, math.pi, 200)
    pool = pool_of(
        *(
            passage(str(at), vector=(math.cos(angle), math.sin(angle)))
            for at, angle in enumerate(angles)
        )
    )
    scores = sorted(rng.uniform(0, 1, 200).tolist(), reverse=True)
    found = await diversify(pool, ranking(scores), 0.7, 200)
    assert found is not None
    rows = unit_rows([one.vector for one in pool.passages])
    picked = marginal_relevance(np.array(scores), rows, 0.7)
    assert list(found.scores) == [place for place, _, _ in picked]


def test_collections_are_merged_by_score_where_that_can_be_compared_and_by_rank_elsewhere() -> None:
    first, second = {0: 0.9, 1: 0.3}, {2: 0.8, 3: 0.7}
    dense = [{0: Ranking(Unit.PASSAGES, scores, similarities=scores)} for scores in (first, second)]
    by_score = merge(dense, comparable=True, rank_constant=60)[0]
    assert by_score.scores == {0: 0.9, 2: 0.8, 3: 0.7, 1: 0.3}
    assert list(by_score.scores) == [0, 2, 3, 1]
    by_rank = merge(dense, comparable=False, rank_constant=60)[0]
    assert list(by_rank.scores) == [0, 2, 1, 3]
    assert by_rank.scores[0] == by_rank.scores[2] == pytest.approx(1 / 61)
    assert by_rank.similarities == first | second
    assert not by_rank.comparable
    lexical = merge([{1: words({0: 9.0})}, {1: words({2: 1.0})}], comparable=True, rank_constant=60)
    assert lexical[1].scores == pytest.approx({0: 1 / 61, 2: 1 / 61})


def test_a_pool_has_each_passage_once_and_documents_of_two_collections_apart() -> None:
    pool = pool_of(passage("a", 0, text=""), passage("a", 1))
    assert list(pool.add([passage("a", 0, text="found later"), passage("b")])) == [0, 2]
    assert [one.text for one in pool.passages] == ["found later", "text", "text"]
    several = Pool()
    assert list(several.add([passage("a")], "notes")) == [0]
    assert list(several.add([passage("a")], "mail")) == [1]
    assert several.collections == ["notes", "mail"]
    assert several.documents[0] != several.documents[1]
