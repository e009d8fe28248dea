"""Searches by meaning, by words and by both in the gateway's pipeline, and doing without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

import grpc
import pytest

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import serve
from sirdar.errors import InvalidArgument, SirdarError, Unavailable, Unimplemented, from_rpc_error
from sirdar.v1 import filter_pb2, query_pb2, search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.rpc.tier_doubles import (
    EmbedderDouble,
    RerankerDouble,
    RetrieverDouble,
    serving_reranker,
    serving_tiers,
)

DENSE, LEXICAL, HYBRID = (
    query_pb2.SEARCH_MODE_DENSE,
    query_pb2.SEARCH_MODE_LEXICAL,
    query_pb2.SEARCH_MODE_HYBRID,
)


@dataclass
class Gateway:
    stub: Any
    retriever: RetrieverDouble = field(default_factory=lambda: RetrieverDouble(lexical=True))
    embedder: EmbedderDouble = field(default_factory=EmbedderDouble)
    reranker: RerankerDouble = field(default_factory=RerankerDouble)

    async def search(self, **request: Any) -> search_pb2.SearchResponse:
        asked = search_pb2.SearchRequest(collection="notes", query="words", **request)
        response: search_pb2.SearchResponse = await self.stub.Search(asked)
        return response

    async def order(self, **request: Any) -> list[str]:
        return [item.document_id for item in (await self.search(**request)).results]

    async def refusal(self, **request: Any) -> SirdarError:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.search(**request)
        return from_rpc_error(refused.value)


@asynccontextmanager
async def running(*, rerank: bool = False, **settings: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway(None)
    async with (
        serving_tiers(gateway.embedder, gateway.retriever) as (embedder, retriever),
        serving_reranker(gateway.reranker) as reranker,
    ):
        given = {
            "port": 0,
            "metrics_port": None,
            "http_port": None,
            "embedder_address": embedder,
            "retriever_addresses": (retriever,),
            "reranker_address": reranker if rerank else None,
        }
        async with (
            serve("gateway", GatewaySettings.model_validate(given | settings), wire) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            gateway.stub = SearchServiceStub(channel)
            yield gateway


async def test_each_mode_has_its_order_and_its_scores() -> None:
    async with running() as gateway:
        dense = (await gateway.search(mode=DENSE)).results
        assert [(item.document_id, round(item.score, 6)) for item in dense] == [
            ("b", 0.9),
            ("a", 0.8),
            ("c", 0.6),
        ]
        assert [item.similarity for item in dense] == [item.score for item in dense]
        assert not any(item.HasField("lexical_score") for item in dense)
        lexical = (await gateway.search(mode=LEXICAL)).results
        assert [(item.document_id, item.score, item.lexical_score) for item in lexical] == [
            ("d", 7.0, 7.0),
            ("c", 5.0, 5.0),
            ("a", 2.0, 2.0),
        ]
        assert not any(item.HasField("similarity") for item in lexical)
        hybrid = (await gateway.search(mode=HYBRID)).results
        # Ranks: c 4 and 2, a 3 (its first passage) and 3, b 1, d 1.
        assert [item.document_id for item in hybrid] == ["c", "a", "b", "d"]
        assert hybrid[0].score == pytest.approx(1 / 64 + 1 / 62)
        assert (round(hybrid[0].similarity, 6), hybrid[0].lexical_score) == (0.6, 5.0)
        assert not hybrid[2].HasField("lexical_score")
        assert not hybrid[3].HasField("similarity")


async def test_the_server_says_what_searches_do_that_do_not() -> None:
    async with running() as gateway:
        assert await gateway.order() == await gateway.order(mode=HYBRID)
    async with running(search_mode="lexical") as gateway:
        assert await gateway.order() == ["d", "c", "a"]
    async with running(fusion_lexical_weight=0) as gateway:
        assert (await gateway.order())[:3] == ["b", "a", "c"]
        fusion = query_pb2.Fusion(dense_weight=0, lexical_weight=1)
        assert (await gateway.order(fusion=fusion))[:3] == ["d", "c", "a"]


async def test_a_collection_without_words_is_searched_by_meaning_unless_words_were_asked_for() -> (
    None
):
    async with running() as gateway:
        gateway.retriever.lexical = False
        answer = await gateway.search()
        assert [item.document_id for item in answer.results] == ["b", "a", "c"]
        assert not answer.degraded
        for mode in (LEXICAL, HYBRID):
            refused = await gateway.refusal(mode=mode)
            assert isinstance(refused, Unimplemented)
            assert refused.reason == "LEXICAL_NOT_AVAILABLE"


async def test_a_threshold_that_nothing_could_meet_is_refused() -> None:
    words = query_pb2.ScoreThreshold(lexical_score=1)
    async with running() as gateway:
        assert (await gateway.search(threshold=words)).results
    async with running() as gateway:
        # Not by words, as the collection has no index of them, and nobody asked for it.
        gateway.retriever.lexical = False
        for threshold, field in (
            (words, "threshold.lexical_score"),
            (query_pb2.ScoreThreshold(rerank_score=1), "threshold.rerank_score"),
        ):
            refused = await gateway.refusal(threshold=threshold)
            assert isinstance(refused, InvalidArgument)
            assert [item.field for item in refused.fields] == [field]


async def test_a_collection_made_anew_with_words_is_read_again() -> None:
    async with running() as gateway:
        gateway.retriever.lexical = False
        await gateway.search()
        gateway.retriever.lexical = True
        assert await gateway.order(mode=LEXICAL) == ["d", "c", "a"]


async def test_words_need_no_embedder_but_highlights_do() -> None:
    async with running() as gateway:
        gateway.embedder.failures = [Unavailable("away", reason="AWAY")] * 20
        assert await gateway.order(mode=LEXICAL) == ["d", "c", "a"]
        assert not gateway.embedder.callers
        marked = await gateway.search(mode=LEXICAL, highlight=True)
        assert [item.reason for item in marked.degraded] == [4]
        hybrid = await gateway.search(mode=HYBRID)
        assert [item.document_id for item in hybrid.results] == ["d", "c", "a"]
        assert [item.reason for item in hybrid.degraded] == [7]
        assert isinstance(await gateway.refusal(mode=HYBRID, require_complete=True), Unavailable)
        assert isinstance(await gateway.refusal(mode=DENSE), Unavailable)
    async with running() as gateway:
        marked = await gateway.search(mode=LEXICAL, highlight=True)
        assert marked.results[0].snippet.highlights


async def test_a_lexical_index_that_does_not_answer_is_said() -> None:
    async with running() as gateway:
        gateway.retriever.missing_lexical_shards = (1,)
        for mode in (HYBRID, LEXICAL):
            answer = await gateway.search(mode=mode)
            assert [item.reason for item in answer.degraded] == [6]
            assert "1" in answer.degraded[0].detail
            # That the vectors of all shards have answered is half of what was asked for.
            refused = await gateway.refusal(mode=mode, require_complete=True)
            assert (type(refused), refused.reason) == (Unavailable, "INCOMPLETE")
        assert not (await gateway.search(mode=DENSE, require_complete=True)).degraded


def standardised(values: list[float]) -> list[float]:
    return [(value - fmean(values)) / pstdev(values) for value in values]


async def test_reranking_adds_the_fused_score_and_the_similarity() -> None:
    async with running(rerank=True) as gateway:
        gateway.reranker.logit_of = {"c!": 0.0, "a!": 0.0, "b!": 0.0, "d!": 4.0}
        answer = await gateway.search(mode=HYBRID)
        found = {item.document_id: item for item in answer.results}
        assert [found[key].retriever_rank for key in "cabd"] == [1, 2, 3, 4]
        # d was found by words only: it counts as similar as the least similar, c.
        parts = (
            standardised([0.0, 0.0, 0.0, 4.0]),
            standardised([1 / 64 + 1 / 62, 1 / 63 + 1 / 63, 1 / 61, 1 / 61]),
            standardised([0.6, 0.7, 0.9, 0.6]),
        )
        expected = dict(zip("cabd", map(sum, zip(*parts, strict=True)), strict=True))
        assert {key: round(found[key].score, 4) for key in "cabd"} == {
            key: round(score, 4) for key, score in expected.items()
        }
        assert [item.document_id for item in answer.results] == sorted(
            "cabd", key=lambda key: -expected[key]
        )


async def test_reranking_words_alone_adds_their_score() -> None:
    async with running(rerank=True) as gateway:
        gateway.reranker.logit_of = {"d!": 1.0, "c!": 1.0, "a!": 1.0}
        answer = await gateway.search(mode=LEXICAL)
        scores = [round(item.score, 4) for item in answer.results]
        assert scores == [round(score, 4) for score in standardised([7.0, 5.0, 2.0])]


async def test_a_filter_reaches_the_retriever_as_it_is() -> None:
    async with running() as gateway:
        wanted = filter_pb2.Filter(exists=filter_pb2.ExistsCondition(field="year"))
        await gateway.search(filter=wanted)
        await gateway.search()
        first, second = gateway.retriever.searches
        assert first.filter == wanted
        assert not second.HasField("filter")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"mode": 9}, "mode"),
        ({"fusion": query_pb2.Fusion(rank_constant=0)}, "fusion.rank_constant"),
        ({"fusion": query_pb2.Fusion(dense_weight=-1)}, "fusion.dense_weight"),
    ],
)
async def test_bad_modes_and_fusions_are_named(request_: dict[str, Any], field: str) -> None:
    async with running() as gateway:
        refused = await gateway.refusal(**request_)
        assert isinstance(refused, InvalidArgument)
        assert [item.field for item in refused.fields] == [field]


async def test_deleting_by_filter_needs_one_and_passes_it_on() -> None:
    async with running() as gateway:
        wanted = filter_pb2.Filter(exists=filter_pb2.ExistsCondition(field="year"))
        answer = await gateway.stub.DeleteByFilter(
            search_pb2.DeleteByFilterRequest(collection="notes", filter=wanted, count_only=True)
        )
        assert (answer.documents, list(answer.consistency_tokens)) == (3, ["t"])
        (asked,) = gateway.retriever.deletions
        assert (asked.namespace, asked.filter, asked.count_only) == ("default", wanted, True)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.DeleteByFilter(search_pb2.DeleteByFilterRequest(collection="notes"))
        assert [item.field for item in from_rpc_error(refused.value).fields] == ["filter"]
        assert len(gateway.retriever.deletions) == 1
