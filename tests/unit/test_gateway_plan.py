"""What a request becomes: a graph of stages, as few calls, or a refusal that names the field."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.pipeline.fusion_plan import SearchMode
from gateway.pipeline.plan import Plan, Texts, plan_search
from gateway.pipeline.prefetch import prefetches
from gateway.pipeline.request import read_query
from gateway.pipeline.rerank_plan import server_rerank
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, filter_pb2, query_pb2, search_pb2
from tests.gateway_plans import DENSE, LEXICAL, SETTINGS, fuse, refused_fields, stage


def collapse(inputs: str = "fuse") -> query_pb2.QueryStage:
    return stage("collapse", inputs, collapse=query_pb2.CollapseStage())


def planned(mode: SearchMode = SearchMode.HYBRID, **request: Any) -> Plan:
    asked = search_pb2.SearchRequest(collection="notes", query="words", **request)
    query = read_query(asked, SETTINGS)
    return plan_search(query, mode, collection_pb2.RerankSettings(), server_rerank(SETTINGS))


def names(plan: Plan) -> list[str]:
    return [node.name for node in plan.graph.nodes]


def test_a_request_without_stages_is_the_graph_that_a_caller_could_write() -> None:
    rerank = stage("rerank", "collapse", rerank=query_pb2.RerankStage())
    written = planned(stages=[DENSE, LEXICAL, fuse(), collapse(), rerank])
    usual = planned()
    assert names(usual) == names(written) == ["dense", "lexical", "fuse", "collapse", "rerank"]
    assert [node.inputs for node in usual.graph.nodes] == [
        node.inputs for node in written.graph.nodes
    ]
    assert (usual.count, usual.candidates, usual.texts) == (
        written.count,
        written.candidates,
        written.texts,
    )
    assert usual is planned()


def test_the_order_of_stages_in_a_request_does_not_matter() -> None:
    plan = planned(stages=[collapse(), fuse(), LEXICAL, DENSE])
    assert names(plan) == ["lexical", "dense", "fuse", "collapse"]
    assert plan.graph.nodes[2].inputs == (1, 0)


def test_every_shorthand_field_adds_its_stage() -> None:
    plan = planned(
        diversify=query_pb2.Diversity(),
        group=query_pb2.Grouping(field="kind"),
        threshold=query_pb2.ScoreThreshold(score=0),
    )
    assert names(plan)[3:] == ["collapse", "rerank", "cut", "diversify", "group"]
    assert plan.vectors
    passages = planned(SearchMode.DENSE, unit=query_pb2.SEARCH_UNIT_PASSAGES)
    assert names(passages) == ["dense", "rerank"]
    assert passages.texts is Texts.ALL


def test_one_list_needs_the_text_of_the_best_alone() -> None:
    off = collection_pb2.RerankSettings(enabled=False)
    plan = planned(SearchMode.DENSE, rerank=off)
    assert (plan.texts, plan.count, plan.candidates) == (Texts.BEST_DOCUMENTS, 10, 30)
    assert planned(rerank=off).texts is Texts.EACH_DOCUMENT


def test_pages_of_one_step_are_of_one_pool() -> None:
    first, second = planned(offset=0), planned(offset=20)
    assert (first.count, first.candidates) == (second.count, second.candidates) == (30, 90)
    assert planned(offset=30).count == planned(offset=50).count == 60
    assert planned(offset=990).count == 1_000


def test_a_hybrid_search_is_one_call() -> None:
    (call,) = prefetches(planned(), "words")
    assert (call.dense, call.lexical) == ({"words": (0,)}, {"words": (1,)})
    assert call.widens


def test_stages_share_a_call_where_filter_exactness_and_candidates_are_the_same() -> None:
    wanted = filter_pb2.Filter(exists=filter_pb2.ExistsCondition(field="year"))
    plan = planned(
        stages=[
            DENSE,
            LEXICAL,
            stage("other", "", dense=query_pb2.DensePrefetch(query="sea")),
            stage("few", "", dense=query_pb2.DensePrefetch(candidates=5)),
            stage("exact", "", dense=query_pb2.DensePrefetch(exact=True)),
            stage("filtered", "", lexical=query_pb2.LexicalPrefetch(filter=wanted)),
            fuse(inputs="dense lexical other few exact filtered"),
        ]
    )
    calls = prefetches(plan, "words")
    assert [(one.dense, one.lexical) for one in calls] == [
        ({"words": (0,), "sea": (2,)}, {"words": (1,)}),
        ({"words": (4,)}, {}),
        ({"words": (3,)}, {}),
        ({}, {"words": (5,)}),
    ]
    assert [one.exact for one in calls] == [False, True, False, False]
    assert (calls[2].candidates, calls[2].widens) == (5, False)
    assert calls[3].filter_path == "stages[5].lexical.filter"


def many(count: int) -> list[query_pb2.QueryStage]:
    dense = [
        stage(f"d{at}", "", dense=query_pb2.DensePrefetch(query=str(at))) for at in range(count - 1)
    ]
    return [*dense, fuse(inputs=" ".join(one.name for one in dense))]


def group_stage(**how: Any) -> query_pb2.QueryStage:
    return stage("g", "dense", group=query_pb2.GroupStage(grouping=query_pb2.Grouping(**how)))


BAD_STAGES: Mapping[str, tuple[list[query_pb2.QueryStage], str]] = {
    "a cycle": (
        [DENSE, fuse("one", "dense two"), fuse("two", "one")],
        "stages[1].inputs",
    ),
    "itself": ([DENSE, fuse("one", "dense one")], "stages[1].inputs"),
    "a missing input": ([DENSE, fuse(inputs="dense words")], "stages[1].inputs[1]"),
    "an input twice": ([DENSE, fuse(inputs="dense dense")], "stages[1].inputs[1]"),
    "no input": ([DENSE, fuse(inputs="")], "stages[1].inputs"),
    "an input too many": ([DENSE, LEXICAL, collapse("dense lexical")], "stages[2].inputs"),
    "an input of a beginning": (
        [DENSE, stage("l", "dense", lexical=query_pb2.LexicalPrefetch())],
        "stages[1].inputs",
    ),
    "documents to fuse": (
        [DENSE, LEXICAL, collapse("dense"), fuse(inputs="collapse lexical")],
        "stages[3].inputs[0]",
    ),
    "documents to collapse": (
        [DENSE, collapse("dense"), stage("c", "collapse", collapse=query_pb2.CollapseStage())],
        "stages[2].inputs[0]",
    ),
    "two answers": ([DENSE, LEXICAL], "stages"),
    "too many": (many(33), "stages"),
    "a name twice": ([DENSE, DENSE], "stages[1].name"),
    "no name": ([stage("", "", dense=query_pb2.DensePrefetch())], "stages[0].name"),
    "a bad name": ([stage("a.b", "", dense=query_pb2.DensePrefetch())], "stages[0].name"),
    "nothing to do": ([query_pb2.QueryStage(name="idle")], "stages[0]"),
    "too few weights": ([DENSE, LEXICAL, fuse(weights=[1])], "stages[2].fuse.weights"),
    "a weight below 0": ([DENSE, LEXICAL, fuse(weights=[1, -1])], "stages[2].fuse.weights[1]"),
    "weights of 0": ([DENSE, LEXICAL, fuse(weights=[0, 0])], "stages[2].fuse.weights"),
    "a rank constant": (
        [DENSE, LEXICAL, fuse(rank_constant=0.5)],
        "stages[2].fuse.rank_constant",
    ),
    "no candidates": (
        [stage("d", "", dense=query_pb2.DensePrefetch(candidates=0))],
        "stages[0].dense.candidates",
    ),
    "a blank query": (
        [stage("d", "", dense=query_pb2.DensePrefetch(query=" "))],
        "stages[0].dense.query",
    ),
    "a group of nothing": ([DENSE, group_stage()], "stages[1].group.grouping.field"),
    "a group of too many": (
        [DENSE, group_stage(field="kind", limit=101)],
        "stages[1].group.grouping.limit",
    ),
    "a cut of nothing": (
        [DENSE, stage("c", "dense", cut=query_pb2.CutStage(limit=0))],
        "stages[1].cut.limit",
    ),
    "a rerank of nothing": (
        [
            DENSE,
            stage(
                "r",
                "dense",
                rerank=query_pb2.RerankStage(settings=collection_pb2.RerankSettings(depth=0)),
            ),
        ],
        "stages[1].rerank.settings.depth",
    ),
}


@pytest.mark.parametrize("fault", BAD_STAGES)
def test_what_is_no_graph_is_refused_by_its_stage(fault: str) -> None:
    stages, field = BAD_STAGES[fault]
    request = search_pb2.SearchRequest(collection="notes", query="words", stages=stages)
    assert refused_fields(request) == [field]


def test_thirty_two_stages_are_a_graph() -> None:
    assert len(planned(stages=many(32)).graph.nodes) == 32


def cut(name: str, inputs: str, **threshold: float) -> query_pb2.QueryStage:
    limits = query_pb2.ScoreThreshold(**threshold)
    return stage(name, inputs, cut=query_pb2.CutStage(threshold=limits))


def reranked(name: str, inputs: str, **settings: Any) -> query_pb2.QueryStage:
    own = collection_pb2.RerankSettings(**settings)
    return stage(name, inputs, rerank=query_pb2.RerankStage(settings=own))


# Stages, the search's own threshold, and the field that no result could meet.
UNMET: Mapping[str, tuple[list[query_pb2.QueryStage], dict[str, float], str]] = {
    "words where there are none": ([DENSE], {"lexical_score": 1}, "threshold.lexical_score"),
    "meaning where there is none": ([LEXICAL], {"similarity": 0}, "threshold.similarity"),
    "logits of nobody": ([DENSE], {"rerank_score": 0}, "threshold.rerank_score"),
    "a cut in the list beside": (
        [DENSE, cut("cut", "dense", lexical_score=1), LEXICAL, fuse(inputs="cut lexical")],
        {},
        "stages[1].cut.threshold.lexical_score",
    ),
    "a cut before the reranker": (
        [cut("cut", "dense", rerank_score=0), DENSE, reranked("rerank", "cut")],
        {},
        "stages[0].cut.threshold.rerank_score",
    ),
    "a reranker that is off": (
        [DENSE, reranked("rerank", "dense", enabled=False)],
        {"rerank_score": 0},
        "threshold.rerank_score",
    ),
}


@pytest.mark.parametrize("fault", UNMET)
def test_a_threshold_that_no_result_could_meet_is_refused(fault: str) -> None:
    stages, threshold, field = UNMET[fault]
    limits = query_pb2.ScoreThreshold(**threshold)
    with pytest.raises(InvalidArgument) as refused:
        planned(stages=stages, threshold=limits)
    assert [item.field for item in refused.value.fields] == [field]


def test_a_threshold_that_results_could_meet_is_a_cut() -> None:
    both = [DENSE, LEXICAL, fuse(), reranked("rerank", "fuse")]
    limits = query_pb2.ScoreThreshold(similarity=0.5, lexical_score=1, rerank_score=0)
    assert names(planned(stages=both, threshold=limits))[-1] == "threshold"
    assert "cut" in names(planned(threshold=limits))
    with pytest.raises(InvalidArgument):
        planned(SearchMode.DENSE, threshold=query_pb2.ScoreThreshold(lexical_score=1))
