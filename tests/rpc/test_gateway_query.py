"""What one search can be asked: its units, pages, groups, stages and explanations."""

from typing import Any

from sirdar.errors import (
    InvalidArgument,
    NotFound,
    Unavailable,
)
from sirdar.v1 import collection_pb2, common_pb2, query_pb2
from tests.rpc.query_double import Passage, reasons, running

DENSE, LEXICAL, HYBRID = (
    query_pb2.SEARCH_MODE_DENSE,
    query_pb2.SEARCH_MODE_LEXICAL,
    query_pb2.SEARCH_MODE_HYBRID,
)
PASSAGES = query_pb2.SEARCH_UNIT_PASSAGES


async def test_passages_come_each_for_itself() -> None:
    async with running() as gateway:
        answer = await gateway.search(mode=DENSE, unit=PASSAGES, top_k=4)
        found = [(item.document_id, item.snippet.passage_index) for item in answer.results]
        assert found == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
        assert not gateway.retriever.searches[-1].HasField("documents_with_text")


async def test_documents_can_be_as_good_as_the_mean_of_their_best() -> None:
    async with running() as gateway:
        mean = query_pb2.Collapse(method=query_pb2.COLLAPSE_METHOD_MEAN_OF_BEST, passages=2)
        answer = await gateway.search(mode=DENSE, collapse=mean)
        # a: (0.9 + 0.85) / 2, the others with the lowest, 0.6.
        assert [round(item.score, 3) for item in answer.results] == [0.875, 0.7, 0.65, 0.6]
        assert await gateway.order(mode=DENSE, collapse=mean) == ["a", "b", "c", "d"]


async def test_pages_are_of_one_pool() -> None:
    async with running() as gateway:
        first = await gateway.search(mode=DENSE, top_k=2)
        second = await gateway.search(mode=DENSE, top_k=2, offset=2)
        assert [item.document_id for item in first.results] == ["a", "b"]
        assert [item.document_id for item in second.results] == ["c", "d"]
        beyond = await gateway.search(mode=DENSE, top_k=2, offset=4)
        assert (list(beyond.results), beyond.pool) == ([], 4)


async def test_groups_are_counted_and_keep_together() -> None:
    async with running() as gateway:
        by_kind = query_pb2.Grouping(field="kind", limit=2)
        answer = await gateway.search(mode=DENSE, group=by_kind)
        assert [item.document_id for item in answer.results] == ["a", "b", "c"]
        assert [item.group.string_value for item in answer.results] == ["x", "x", "y"]
        assert answer.pool == 2
        assert await gateway.order(mode=DENSE, group=by_kind, top_k=1) == ["a", "b"]
        assert await gateway.order(mode=DENSE, group=by_kind, top_k=1, offset=1) == ["c"]


async def test_a_threshold_leaves_out_what_is_worse() -> None:
    async with running() as gateway:
        least = query_pb2.ScoreThreshold(similarity=0.75)
        assert await gateway.order(mode=DENSE, threshold=least) == ["a", "b"]
        # Few results are no reason to look for more candidates.
        assert len(gateway.retriever.searches) == 1


async def test_results_carry_what_was_asked_for() -> None:
    async with running() as gateway:
        fields = query_pb2.ReturnedFields(text=False, metadata_fields=["kind"])
        first = (await gateway.search(fields=fields)).results[0]
        assert (first.snippet.text, list(first.metadata)) == ("", ["kind"])
        fields = query_pb2.ReturnedFields(metadata=False)
        first = (await gateway.search(fields=fields)).results[0]
        assert first.snippet.text and not first.metadata


async def test_different_results_come_before_alike_ones() -> None:
    async with running() as gateway:
        diversity = query_pb2.Diversity(relevance=0.4)
        answer = await gateway.search(mode=DENSE, diversify=diversity)
        # a, b and d are the same direction, c stands across.
        assert [item.document_id for item in answer.results] == ["a", "c", "b", "d"]
        assert [item.retriever_rank for item in answer.results] == [1, 3, 2, 4]
        scores = [item.score for item in answer.results]
        assert scores == sorted(scores, reverse=True)
        gateway.retriever.vectors = False
        older = await gateway.search(mode=DENSE, diversify=diversity)
        assert [item.document_id for item in older.results] == ["a", "b", "c", "d"]
        assert reasons(older) == ["DIVERSIFY_SKIPPED"]


async def test_a_result_is_explained_stage_by_stage() -> None:
    async with running(rerank=True) as gateway:
        gateway.reranker.logit_of = {"a0": 1.0, "b0": 2.0, "c0": 3.0, "d0": 0.0}
        answer = await gateway.search(mode=HYBRID, explain=True)
        by_id = {item.document_id: item.explanation.stages for item in answer.results}
        told = [(one.stage, one.rank, one.detail) for one in by_id["c"]]
        assert told[0] == ("dense", 4, "similarity 0.7000")
        assert told[1] == ("lexical", 1, "BM25 3.000")
        assert told[2][2] == "dense 4, lexical 1"
        assert told[3][2] == "the best of 1 passage"
        assert told[4][2] == "logit 3.000"
        assert [one.stage for one in by_id["b"]] == ["dense", "fuse", "collapse", "rerank"]
        assert by_id["b"][1].detail == "dense 3, lexical does not have it"
        assert by_id["a"][3].detail == "the best of 2 passages"
        ranks = [by_id[item.document_id][-1].rank for item in answer.results]
        assert ranks == [1, 2, 3, 4]
        plain = await gateway.search(mode=HYBRID)
        assert not any(item.HasField("explanation") for item in plain.results)


def stage(name: str, *inputs: str, **kind: Any) -> query_pb2.QueryStage:
    return query_pb2.QueryStage(name=name, inputs=inputs, **kind)


BEGINNINGS = (
    stage("dense", dense=query_pb2.DensePrefetch()),
    stage("lexical", lexical=query_pb2.LexicalPrefetch()),
)


async def test_stages_that_say_the_usual_give_the_usual_answer() -> None:
    async with running() as gateway:
        usual = await gateway.search(mode=HYBRID)
        stages = [
            *BEGINNINGS,
            stage("fuse", "dense", "lexical", fuse=query_pb2.FuseStage()),
            stage("documents", "fuse", collapse=query_pb2.CollapseStage()),
        ]
        written = await gateway.search(stages=stages)
        assert list(written.results) == list(usual.results)
        assert len(gateway.retriever.searches) == 2


async def test_passages_can_be_reranked_before_they_become_documents() -> None:
    async with running(rerank=True) as gateway:
        gateway.reranker.logit_of = {"a0": -9.0, "a1": 9.0, "b0": 1.0, "c0": 0.0, "d0": 0.0}
        settings = collection_pb2.RerankSettings(retriever_weight=0)
        stages = [
            BEGINNINGS[0],
            stage("r", "dense", rerank=query_pb2.RerankStage(settings=settings, query="other")),
            stage("documents", "r", collapse=query_pb2.CollapseStage()),
            stage("best", "documents", cut=query_pb2.CutStage(limit=2)),
        ]
        answer = await gateway.search(stages=stages)
        found = [(item.document_id, item.snippet.passage_index) for item in answer.results]
        assert found == [("a", 1), ("b", 0)]
        assert gateway.reranker.seen == [["a0", "a1", "b0", "c0", "d0"]]
        assert answer.pool == 2


async def test_stages_of_several_queries_embed_each() -> None:
    async with running() as gateway:
        stages = [
            BEGINNINGS[0],
            stage("other", dense=query_pb2.DensePrefetch(query="sea")),
            stage("fuse", "dense", "other", fuse=query_pb2.FuseStage(weights=[1, 2])),
        ]
        answer = await gateway.search(stages=stages, top_k=2)
        assert [item.document_id for item in answer.results] == ["a", "a"]
        (asked,) = gateway.retriever.searches
        assert len(asked.queries) == 2
        assert len(gateway.embedder.callers) == 2


async def test_a_bad_graph_reaches_the_caller_as_such() -> None:
    async with running() as gateway:
        stages = [*BEGINNINGS[:1], stage("fuse", "dense", "gone", fuse=query_pb2.FuseStage())]
        refused = await gateway.refusal(stages=stages)
        assert isinstance(refused, InvalidArgument)
        assert [item.field for item in refused.fields] == ["stages[1].inputs[1]"]
        assert not gateway.retriever.searches


LIKE = query_pb2.MoreLikeThis(document_id="a")


async def test_more_like_a_document_leaves_it_out() -> None:
    async with running() as gateway:
        assert await gateway.order(like=LIKE, mode=DENSE) == ["b", "c", "d"]
        assert await gateway.order(like=LIKE) == ["c", "b", "d"]
        asked = gateway.retriever.searches[-1].queries[0]
        assert asked.lexical == "title of a"
        assert asked.vector.dtype == common_pb2.DTYPE_FLOAT32
        assert not gateway.embedder.callers
        # An older retriever gives no vectors: the text is embedded anew.
        gateway.retriever.vectors = False
        assert await gateway.order(like=LIKE, mode=DENSE) == ["b", "c", "d"]
        assert gateway.embedder.embedded == ["a"]
        missing = query_pb2.MoreLikeThis(document_id="gone")
        refused = await gateway.refusal(like=missing)
        assert isinstance(refused, NotFound)
        assert refused.message.startswith("like.document_id")


async def test_without_an_embedder_words_go_on_unless_all_is_required() -> None:
    async with running() as gateway:
        gateway.embedder.failures = [Unavailable("away")] * 100
        answer = await gateway.search(mode=HYBRID)
        assert [item.document_id for item in answer.results] == ["c", "a"]
        assert reasons(answer) == ["DENSE_SKIPPED"]
        for request in ({"mode": DENSE}, {"require_complete": True}):
            assert isinstance(await gateway.refusal(**request), Unavailable)


async def test_a_document_that_crowds_out_all_others_ends_the_search_and_it_is_said() -> None:
    async with running() as gateway:
        gateway.retriever.passages["notes"] = [
            Passage("long", 0.5, index=at) for at in range(10_001)
        ]
        answer = await gateway.search(mode=DENSE)
        assert [item.document_id for item in answer.results] == ["long"]
        assert reasons(answer) == ["CANDIDATES_CUT"]
        asked = [one.candidates for one in gateway.retriever.searches]
        assert asked == [30, 120, 480, 1_920, 7_680, 10_000]
        # Nothing is missing of what a caller chose to look at.
        assert not (await gateway.search(mode=DENSE, candidates=20)).degraded
