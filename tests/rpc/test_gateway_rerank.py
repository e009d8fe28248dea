"""Reranking and highlighting in the gateway's pipeline, and doing without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import serve
from sirdar.client import AsyncClient, Document, RerankSettings
from sirdar.errors import InvalidArgument, ResourceExhausted, Unavailable
from tests.rpc.tier_doubles import (
    EmbedderDouble,
    RerankerDouble,
    RetrieverDouble,
    serving_reranker,
    serving_tiers,
)

# The retriever finds b (0.9), a (0.8) and c (0.6).
OPINION = {"c!": 9.0, "a!": 1.0, "b!": -4.0}


@dataclass
class Gateway:
    client: AsyncClient
    embedder: EmbedderDouble
    retriever: RetrieverDouble
    reranker: RerankerDouble
    address: str

    async def order(self, **options: Any) -> list[str]:
        return [item.document_id for item in await self.client.search("notes", "q", **options)]


@asynccontextmanager
async def running(*, with_reranker: bool = True, **settings: Any) -> AsyncIterator[Gateway]:
    embedder, retriever = EmbedderDouble(), RetrieverDouble()
    reranker = RerankerDouble(dict(OPINION))
    async with (
        serving_tiers(embedder, retriever) as (embedder_address, retriever_address),
        serving_reranker(reranker) as reranker_address,
    ):
        gateway_settings = GatewaySettings.model_validate(
            {
                "port": 0,
                "metrics_port": None,
                "embedder_address": embedder_address,
                "retriever_addresses": (retriever_address,),
                "reranker_address": reranker_address if with_reranker else None,
                **settings,
            }
        )
        async with (
            serve("gateway", gateway_settings, wire) as server,
            AsyncClient(f"127.0.0.1:{server.port}") as client,
        ):
            address = f"127.0.0.1:{server.port}"
            yield Gateway(client, embedder, retriever, reranker, address)


async def test_the_order_is_the_sum_of_both_standardised_scores() -> None:
    async with running() as gateway:
        found = await gateway.client.search("notes", "q")
        # Standardised: similarity b 1.07, a 0.27, c -1.34; logit c 1.31, a -0.19, b -1.12.
        assert [item.document_id for item in found] == ["a", "c", "b"]
        assert [round(item.score, 2) for item in found] == [0.08, -0.03, -0.05]
        assert [item.rerank_score for item in found] == [1.0, 9.0, -4.0]
        assert [item.retriever_rank for item in found] == [2, 3, 1]
        assert {timing.stage for timing in found.timings} == {
            "embed",
            "retrieve",
            "rerank",
            "total",
        }
        assert found.degraded == ()


async def test_the_request_goes_before_the_collection_before_the_server() -> None:
    async with running() as gateway:
        gateway.retriever.rerank.retriever_weight = 0
        assert await gateway.order() == ["c", "a", "b"]
        assert await gateway.order(rerank=RerankSettings(weight=0, retriever_weight=1)) == [
            "b",
            "a",
            "c",
        ]
        assert await gateway.order(rerank=RerankSettings(enabled=False)) == ["b", "a", "c"]
    async with running() as gateway:
        gateway.retriever.rerank.enabled = False
        assert await gateway.order() == ["b", "a", "c"]
        assert await gateway.order(rerank=RerankSettings(enabled=True)) == ["a", "c", "b"]


async def test_documents_beyond_the_depth_follow_in_the_retrievers_order() -> None:
    async with running() as gateway:
        found = await gateway.client.search(
            "notes", "q", rerank=RerankSettings(depth=2, retriever_weight=0)
        )
        assert [item.document_id for item in found] == ["a", "b", "c"]
        assert found.results[2].rerank_score is None
        scores = [item.score for item in found]
        assert scores == sorted(scores, reverse=True)
        assert gateway.reranker.seen == [["b!", "a!"]]


async def test_reranking_looks_deeper_than_the_answer() -> None:
    async with running() as gateway:
        settings = RerankSettings(retriever_weight=0)
        assert await gateway.order(top_k=1, rerank=settings) == ["c"]


async def test_a_passage_that_the_reranker_refuses_counts_as_the_worst() -> None:
    async with running() as gateway:
        del gateway.reranker.logit_of["a!"]
        found = await gateway.client.search("notes", "q", rerank=RerankSettings(retriever_weight=0))
        assert found.results[0].document_id == "c"
        by_id = {item.document_id: item for item in found}
        assert by_id["a"].rerank_score is None
        assert by_id["a"].score == by_id["b"].score


@pytest.mark.parametrize("trouble", ["down", "slow", "busy", "garbage"])
async def test_without_the_reranker_the_retrievers_order_stands_and_it_is_said(
    trouble: str,
) -> None:
    async with running(rerank_timeout_seconds=0.2) as gateway:
        if trouble == "down":
            gateway.reranker.failures = [Unavailable("away")] * 3
        elif trouble == "busy":
            gateway.reranker.failures = [ResourceExhausted("full")]
        elif trouble == "slow":
            gateway.reranker.delay_seconds = 5
        else:
            gateway.reranker.logit_of.clear()
        found = await gateway.client.search("notes", "q")
        assert [item.document_id for item in found] == ["b", "a", "c"]
        assert [item.score for item in found] == [item.similarity for item in found]
        assert [item.reason for item in found.degraded] == ["rerank_skipped"]


@pytest.mark.parametrize("retriever_weight", [0.0, 1.0])
async def test_documents_that_there_was_no_time_for_follow_in_the_retrievers_order(
    retriever_weight: float,
) -> None:
    async with running(rerank_retriever_weight=retriever_weight) as gateway:
        gateway.reranker.no_time = {"b!"}
        found = await gateway.client.search("notes", "q")
        # The best by similarity is the one that was dropped.
        assert found.results[2].document_id == "b"
        assert found.results[2].rerank_score is None
        assert {item.document_id for item in found.results[:2]} == {"a", "c"}
        scores = [item.score for item in found]
        assert scores == sorted(scores, reverse=True)
        (degraded,) = found.degraded
        assert degraded.reason == "rerank_partial"
        assert "2 of 3 candidates" in degraded.detail


async def test_a_reranker_with_time_for_one_document_is_as_good_as_none() -> None:
    async with running() as gateway:
        gateway.reranker.no_time = {"a!"}
        found = await gateway.client.search(
            "notes", "q", rerank=RerankSettings(depth=2, retriever_weight=0)
        )
        assert [item.document_id for item in found] == ["b", "a", "c"]
        assert [item.reason for item in found.degraded] == ["rerank_skipped"]
        assert "1 of 2 candidates" in found.degraded[0].detail


async def test_tiers_are_told_which_tenant_a_call_is_for() -> None:
    async with running() as gateway:
        await gateway.client.search("notes", "q")
        async with AsyncClient(gateway.address, namespace="zoë & co") as other:
            await other.search("notes", "q", highlight=True)
            async for outcome in other.index("notes", [Document(id="a", text="a text")]):
                assert outcome.ok
        assert gateway.reranker.callers == ["default", "zo%C3%AB%20%26%20co"]
        assert gateway.embedder.callers == ["default"] + ["zo%C3%AB%20%26%20co"] * 3


async def test_a_slow_reranker_leaves_time_to_answer_within_the_callers_deadline() -> None:
    async with running() as gateway:
        gateway.reranker.delay_seconds = 5
        for _ in range(5):
            found = await gateway.client.search("notes", "q", highlight=True, timeout_seconds=0.6)
            assert [item.document_id for item in found] == ["b", "a", "c"]
            # The stage after it has its share, too.
            assert all(item.snippet.highlights for item in found)
            assert [item.reason for item in found.degraded] == ["rerank_skipped"]


async def test_weights_that_only_together_are_nothing_are_refused() -> None:
    async with running() as gateway:
        gateway.retriever.rerank.weight = 0
        with pytest.raises(InvalidArgument) as refused:
            await gateway.order(rerank=RerankSettings(retriever_weight=0))
        assert [item.field for item in refused.value.fields] == ["rerank.weight"]


async def test_a_gateway_without_a_reranker_says_so_only_when_it_was_asked() -> None:
    async with running(with_reranker=False) as gateway:
        assert (await gateway.client.search("notes", "q")).degraded == ()
        found = await gateway.client.search("notes", "q", rerank=RerankSettings(enabled=True))
        assert [item.reason for item in found.degraded] == ["rerank_skipped"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (RerankSettings(depth=0), "depth"),
        (RerankSettings(depth=1001), "depth"),
        (RerankSettings(weight=-1), "weight"),
        (RerankSettings(weight=float("nan")), "weight"),
        (RerankSettings(retriever_weight=float("inf")), "retriever_weight"),
        (RerankSettings(weight=0, retriever_weight=0), "weight"),
    ],
)
async def test_bad_rerank_settings_are_named(settings: RerankSettings, field: str) -> None:
    async with running() as gateway:
        with pytest.raises(InvalidArgument) as refused:
            await gateway.order(rerank=settings)
        assert [item.field for item in refused.value.fields] == [f"rerank.{field}"]


async def test_the_sentences_that_mean_what_the_query_means_are_marked() -> None:
    async with running(rerank_enabled=False) as gateway:
        gateway.embedder.word = "sea"
        gateway.retriever.text_of["b"] = "  Bread — is baked. The sea is wide!  Ships sail.\n"
        found = await gateway.client.search("notes", "the sea", highlight=True)
        snippet = found.results[0].snippet
        assert [snippet.text[span.start : span.end] for span in snippet.highlights] == [
            "The sea is wide!"
        ]
        assert {timing.stage for timing in found.timings} >= {"highlight"}
        plain = await gateway.client.search("notes", "the sea")
        assert plain.results[0].snippet.highlights == ()


async def test_highlights_cost_a_bounded_number_of_embeddings() -> None:
    async with running(rerank_enabled=False, max_highlight_sentences=3) as gateway:
        for identity in "abc":
            gateway.retriever.text_of[identity] = "One here. Two here. Three here."
        found = await gateway.client.search("notes", "q", highlight=True)
        assert [len(item.snippet.highlights) > 0 for item in found] == [True, False, False]
