"""Tiers that are away, slow, flap, answer nonsense or are of the version before."""

import asyncio
import math
import struct
import time
from typing import Any

import pytest

from gateway.backends import breaker
from sirdar.errors import DeadlineExceeded, Internal, ResourceExhausted, Unavailable
from sirdar.v1 import query_pb2, search_pb2
from tests.rpc.failing_tiers import (
    Spoil,
    calls_in_flight,
    gateway_over,
    gibberish,
    metric,
    running,
    until,
)

FOUND = ["b", "a", "c"]


def set_vector(**fields: Any) -> Spoil:
    def spoil(response: Any) -> None:
        for embedding in response.embeddings:
            for name, value in fields.items():
                setattr(embedding.vector, name, value)

    return spoil


EMBEDDER_NONSENSE: dict[str, Spoil] = {
    "no vectors": lambda response: response.ClearField("embeddings"),
    "too many vectors": lambda response: response.embeddings.add(),
    "neither vector nor error": lambda response: response.embeddings[0].ClearField("vector"),
    "NaN": set_vector(data=struct.pack("<2f", math.nan, 1)),
    "infinity": set_vector(data=struct.pack("<2f", math.inf, -math.inf)),
    "fewer bytes than dimensions": set_vector(data=b"1234"),
    "no dimensions": set_vector(data=b"", dimensions=0),
    "a type of numbers that nobody knows": set_vector(dtype=99),
    "another space": lambda response: setattr(response.space, "fingerprint", "other"),
}


@pytest.mark.parametrize("what", EMBEDDER_NONSENSE)
async def test_nonsense_of_the_embedder_is_an_error_of_its_own(what: str) -> None:
    async with running() as tiers:
        tiers.embedder.spoil = EMBEDDER_NONSENSE[what]
        error = await tiers.refused()
        assert isinstance(error, Unavailable)
        assert error.reason == "EMBEDDER_BAD_ANSWER"
        assert tiers.retriever.searches == []
        assert tiers.embedder.calls == 1


def of_first(change: Spoil) -> Spoil:
    return lambda response: change(response.results[0])


RETRIEVER_NONSENSE: dict[str, Spoil] = {
    "no results": lambda response: response.ClearField("results"),
    "results of another query": lambda response: response.results.add(),
    "a passage that is not there": of_first(lambda found: setattr(found.dense[0], "passage", 5)),
    "a passage before the first": of_first(lambda found: setattr(found.dense[0], "passage", -1)),
    "passages cut off": of_first(lambda found: found.passages.pop()),
    "a score that is no number": of_first(lambda found: setattr(found.dense[0], "score", math.nan)),
    "fewer scores than passages": of_first(lambda found: found.dense_ids.passage_ids.append(1)),
}


@pytest.mark.parametrize("what", RETRIEVER_NONSENSE)
async def test_nonsense_of_the_retriever_is_an_error_of_its_own(what: str) -> None:
    async with running() as tiers:
        tiers.retriever.spoil = RETRIEVER_NONSENSE[what]
        if what == "passages cut off":
            tiers.retriever.lexical = True
        error = await tiers.refused()
        assert isinstance(error, Unavailable)
        assert error.reason == "RETRIEVER_BAD_ANSWER"


RERANKER_NONSENSE: dict[str, Spoil] = {
    "a score of an unknown passage": lambda response: setattr(response.scores[0], "id", "77"),
    "an id that is no number": lambda response: setattr(response.scores[0], "id", "x"),
    "a passage twice": lambda response: setattr(response.scores[0], "id", "1"),
    "a passage left out": lambda response: response.scores.pop(),
    "neither score nor error": lambda response: response.scores[0].ClearField("score"),
    "a score that is no number": lambda response: setattr(response.scores[0], "score", math.nan),
    "nothing": lambda response: response.Clear(),
}


@pytest.mark.parametrize("what", RERANKER_NONSENSE)
async def test_nonsense_of_the_reranker_leaves_the_retrievers_order_and_is_said(what: str) -> None:
    async with running() as tiers:
        tiers.reranker.spoil = RERANKER_NONSENSE[what]
        found = await tiers.client.search("notes", "q")
        assert [item.document_id for item in found] == FOUND
        (degraded,) = found.degraded
        assert degraded.reason == "rerank_skipped"
        assert "makes no sense" in degraded.detail


async def test_bytes_that_are_no_message_are_nonsense() -> None:
    async with (
        running() as tiers,
        gibberish() as address,
        gateway_over(
            retriever_addresses=tuple(tiers.addresses), embedder_address=address
        ) as tiers.address,
    ):
        error = await tiers.refused()
        assert error.reason == "EMBEDDER_BAD_ANSWER"


async def test_a_fault_of_a_tier_is_that_tiers() -> None:
    async with running() as tiers:
        tiers.retriever.failures = [ValueError("secret")]
        error = await tiers.refused()
        assert isinstance(error, Internal)
        assert error.reason == "RETRIEVER_FAILED"
        assert "secret" not in error.message
        assert len(tiers.retriever.searches) == 1
        assert await tiers.searched() == FOUND


async def test_tiers_of_the_version_before_are_understood() -> None:
    """They send less."""

    def less(response: Any) -> None:
        response.ClearField("coverage")
        response.ClearField("generation")

    async with running() as tiers:
        tiers.retriever.spoil = less
        tiers.embedder.spoil = lambda response: [
            embedding.ClearField("tokens") for embedding in response.embeddings
        ]
        tiers.reranker.spoil = lambda response: response.ClearField("model")
        found = await tiers.client.search("notes", "q", require_complete=True)
        assert [item.document_id for item in found] == FOUND
        assert found.degraded == ()


@pytest.mark.parametrize("tier", ["embedder", "retriever"])
async def test_nonsense_ends_an_index_stream_with_an_error_of_its_own(tier: str) -> None:
    async with running(index_patience_seconds=0.01) as tiers:
        double: Any = getattr(tiers, tier)
        field = "documents" if tier == "embedder" else "outcomes"
        double.spoil = lambda response: response.ClearField(field)
        error = await tiers.refused_index()
        assert error.reason == f"{tier.upper()}_BAD_ANSWER"


async def test_a_tier_that_is_away_for_a_moment_is_asked_again() -> None:
    async with running() as tiers:
        tiers.retriever.failures = [Unavailable("away")] * 2
        assert await tiers.searched() == FOUND
        assert len(tiers.retriever.searches) == 3


async def test_each_call_is_tried_three_times_at_most() -> None:
    """gRPC's own retries would make it nine."""
    async with running() as tiers:
        tiers.retriever.failures = [Unavailable("away")] * 100
        assert isinstance(await tiers.refused(), Unavailable)
        assert len(tiers.retriever.searches) == 3


async def test_retries_do_not_make_a_storm() -> None:
    async with running() as tiers:
        await tiers.searched()
        tiers.retriever.failures = [Unavailable("away")] * 10_000
        before = metric("retries_total", tier="retriever", outcome="spent")
        results = await asyncio.gather(
            *(tiers.searched() for _ in range(100)), return_exceptions=True
        )
        assert all(isinstance(one, Unavailable) for one in results)
        # Ten are saved, and each of at most 300 calls earns a tenth of one.
        assert metric("retries_total", tier="retriever", outcome="spent") - before <= 41


def _most_probes(seconds: float) -> int:
    """Of a circuit that is open, within so long."""
    probes, pause = 1, breaker._FIRST_SECONDS
    while (seconds := seconds - pause * (1 - breaker._JITTER)) >= 0:
        probes, pause = probes + 1, min(2 * pause, breaker._MOST_SECONDS)
    return probes


async def test_a_reranker_that_hangs_is_soon_left_alone_and_found_again() -> None:
    async with running(rerank_timeout_seconds=0.15) as tiers:
        tiers.reranker.delay_seconds = 60
        for _ in range(5):
            assert await tiers.searched() == FOUND
        asked = tiers.reranker.calls
        began = time.monotonic()
        results = await asyncio.gather(*(tiers.client.search("notes", "q") for _ in range(20)))
        # Nobody waits for it but who finds out whether it is back: one, of twenty searches that
        # are over before the next may.
        assert tiers.reranker.calls <= asked + _most_probes(time.monotonic() - began)
        assert all(found.degraded[0].reason == "rerank_skipped" for found in results)
        assert "held back" in results[-1].degraded[0].detail
        tiers.reranker.delay_seconds = 0

        async def whole() -> bool:
            return not (await tiers.client.search("notes", "q")).degraded

        await until(whole)


async def test_deadlines_that_are_short_say_nothing_of_a_tier() -> None:
    async with running() as tiers:
        tiers.embedder.delay_seconds = 0.06
        for _ in range(12):
            with pytest.raises(DeadlineExceeded):
                await tiers.searched(timeout_seconds=0.04)
        assert await tiers.searched() == FOUND


async def test_deadlines_of_callers_open_no_circuit_before_the_first_answer() -> None:
    async with running() as tiers:
        tiers.embedder.delay_seconds = 0.6
        results = []
        for _ in range(6):
            results += await asyncio.gather(
                *(tiers.searched(timeout_seconds=0.2) for _ in range(4)), return_exceptions=True
            )
        assert all(isinstance(one, DeadlineExceeded) for one in results)
        tiers.embedder.delay_seconds = 0
        assert await tiers.searched() == FOUND


async def test_who_fails_ends_the_calls_beside_it() -> None:
    async with running() as tiers:
        await tiers.searched()
        tiers.retriever.failures = [ResourceExhausted("full")]
        tiers.retriever.delay_seconds = 60
        stages = [
            query_pb2.QueryStage(name=name, dense=query_pb2.DensePrefetch(candidates=candidates))
            for name, candidates in (("few", 10), ("many", 20))
        ]
        both = query_pb2.FuseStage()
        stages.append(query_pb2.QueryStage(name="both", inputs=["few", "many"], fuse=both))
        request = search_pb2.SearchRequest(collection="notes", query="q", stages=stages)
        refused = await tiers.error_of(lambda stub: stub.Search(request, timeout=30))
        assert isinstance(refused, ResourceExhausted)
        await until(lambda: tiers.retriever.working == 0 and calls_in_flight() == 0)


async def test_a_deadline_of_a_millisecond_costs_the_tiers_nothing() -> None:
    async with running() as tiers:
        await tiers.searched()
        embedded, searched = tiers.embedder.calls, len(tiers.retriever.searches)
        for _ in range(20):
            with pytest.raises(DeadlineExceeded):
                await tiers.searched(timeout_seconds=0.001)
        assert (tiers.embedder.calls, len(tiers.retriever.searches)) == (embedded, searched)


# Queries that are embedded at once go in few calls: two alone, 32, and the rest.
@pytest.mark.parametrize(("tier", "calls"), [("embedder", 4), ("retriever", 50)])
async def test_who_cancels_everything_leaves_no_work_behind(tier: str, calls: int) -> None:
    async with running() as tiers:
        await tiers.searched()
        double: Any = getattr(tiers, tier)
        double.delay_seconds = 60
        searches = [asyncio.create_task(tiers.searched()) for _ in range(50)]
        await until(lambda: calls_in_flight() >= calls)
        for search in searches:
            search.cancel()
        await until(lambda: calls_in_flight() == 0)
        double.delay_seconds = 0
        assert await tiers.searched() == FOUND


async def test_prometheus_is_told_of_failures_and_of_open_circuits() -> None:
    async with running() as tiers:
        where = {"tier": "retriever", "address": tiers.addresses[0]}
        tiers.retriever.failures = [Unavailable("away")] * 5
        for _ in range(2):
            await tiers.refused()
        assert metric("tier_circuit_open", **where) == 1
        assert metric("tier_failures_total", **where, reason="UNAVAILABLE") == 5
        assert metric("tier_calls_in_flight", **where) == 0
        tiers.retriever.failures = []

        async def whole() -> bool:
            try:
                return await tiers.searched() == FOUND
            except Unavailable:
                return False

        await until(whole)
        assert metric("tier_circuit_open", **where) == 0
