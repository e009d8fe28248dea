"""Kept answers through real gateways and a real retriever."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.retriever import sweeper
from sirdar.client import Document
from sirdar.errors import InvalidArgument, Unavailable, from_rpc_error
from sirdar.v1 import collection_pb2, common_pb2, query_pb2
from tests.rpc.cache_world import BYPASSED, HIT, MISS, World, fill, ids, notes


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


async def test_the_same_request_is_answered_alike_without_the_tiers(world: World) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        first = await gateway.kept()
        assert first.cache.status == MISS
        # Whoever is asked now fails.
        world.embedder.failures = [Unavailable("away")] * 50
        second = await gateway.ask()
        assert second.cache.status == HIT
        assert list(second.results) == list(first.results)
        assert second.coverage == first.coverage
        assert [item.stage for item in second.timings] == [common_pb2.STAGE_TOTAL]


async def test_equal_requests_are_equal_however_they_are_written(world: World) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        assert (await gateway.kept()).cache.status == MISS
        plan = {"method": query_pb2.FUSION_METHOD_RECIPROCAL_RANK, "dense_weight": 1.0}
        for same in (
            {"namespace": "default", "top_k": 10},
            {"mode": query_pb2.SEARCH_MODE_HYBRID},
            {"fusion": query_pb2.Fusion(**plan)},  # type: ignore[arg-type]
            {"rerank": collection_pb2.RerankSettings(enabled=False, depth=7)},
            {"consistency": common_pb2.CONSISTENCY_STRONG},
            {"require_complete": True, "cache": query_pb2.CACHE_USE_EXACT},
        ):
            assert (await gateway.ask(**same)).cache.status == HIT, same
        for other in (
            {"top_k": 9},
            {"mode": query_pb2.SEARCH_MODE_DENSE},
            {"fusion": query_pb2.Fusion(dense_weight=2.0)},
            {"highlight": True},
            {"exact": True},
        ):
            assert (await gateway.ask(**other)).cache.status == MISS, other
        assert (await gateway.ask("other words")).cache.status == MISS


async def test_a_request_that_asks_for_no_cache_gets_none(world: World) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        await gateway.kept()
        for _ in range(2):
            none = await gateway.ask(cache=query_pb2.CACHE_USE_NONE)
            assert none.cache.status == BYPASSED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.ask(cache=77)
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidArgument)
        assert error.fields[0].field == "cache"


async def test_a_server_that_is_set_to_none_keeps_for_those_who_ask(world: World) -> None:
    async with world.running(cache_use="none"):
        (gateway,) = world.gateways
        await notes(gateway)
        assert (await gateway.kept()).cache.status == BYPASSED
        exact = query_pb2.CACHE_USE_EXACT
        assert (await gateway.kept(cache=exact)).cache.status == MISS
        assert (await gateway.ask(cache=exact)).cache.status == HIT


async def test_every_write_makes_all_answers_stale_at_once(world: World) -> None:
    async with world.running(gateways=2):
        one, other = world.gateways
        await notes(one)
        for turn in range(20):
            before = await one.kept()
            assert (await one.ask()).cache.status == HIT
            if turn % 2:
                await other.client.delete_documents("notes", [f"new{turn - 1}"])
            else:
                await fill(other, f"new{turn}")
            after = await one.ask(consistency=common_pb2.CONSISTENCY_STRONG)
            assert after.cache.status == MISS
            assert ids(after) != ids(before)


async def test_what_is_not_yet_shown_is_not_kept(world: World) -> None:
    """A hit never shows less than the same search with strong consistency would."""
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        for turn in range(30):
            await fill(gateway, f"new{turn}")
            shown = await gateway.ask("text", top_k=100)
            again = await gateway.ask("text", top_k=100)
            strong = await gateway.ask(
                "text",
                top_k=100,
                consistency=common_pb2.CONSISTENCY_STRONG,
                cache=query_pb2.CACHE_USE_NONE,
            )
            if shown.coverage.pending_writes:
                assert again.cache.status == MISS or ids(again) == ids(strong)
            if again.cache.status == HIT:
                assert list(again.results) == list(strong.results)


async def test_a_collection_made_anew_has_no_old_answers(world: World) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway, "a")
        await gateway.kept()
        assert (await gateway.ask()).cache.status == HIT
        await gateway.client.delete_collection("notes")
        await notes(gateway, "b")
        answer = await gateway.kept()
        assert answer.cache.status == MISS
        assert ids(answer) == {"b"}


async def test_an_answer_is_kept_until_the_first_of_its_documents_expires(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It stays in the indexes for as long as nobody sweeps.
    monkeypatch.setattr(sweeper, "_PAUSE_SECONDS", 1000.0)
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        seconds = 0.25
        while True:
            seconds *= 2
            expires = datetime.now(UTC) + timedelta(seconds=seconds)
            brief = Document("brief", "A brief text.", expires=expires)
            async for outcome in gateway.client.index("notes", [brief]):
                assert outcome.ok, outcome.error
            await gateway.kept()
            known = await gateway.ask()
            # Else this machine was too slow: once more, with more time.
            if known.cache.status == HIT and "brief" in ids(known):
                break
        left = expires - datetime.now(UTC)
        await asyncio.sleep(max(0.0, left.total_seconds()) + 0.01)
        after = await gateway.ask()
        assert after.cache.status == MISS
        assert ids(after) == {"a", "b", "c"}
        assert (await gateway.ask()).cache.status == HIT


async def test_answers_that_another_model_reranked_are_others(world: World) -> None:
    reranked: dict[str, Any] = {
        "rerank": collection_pb2.RerankSettings(enabled=True, retriever_weight=0.0)
    }
    texts = {name: f"The text of {name}." for name in "abc"}
    world.reranker.model = "one"
    world.reranker.logit_of = {texts["a"]: 3.0, texts["b"]: 2.0, texts["c"]: 1.0}
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        await gateway.kept("first", **reranked)
        plain = await gateway.kept()
        before = await gateway.kept(**reranked)
        assert [item.document_id for item in before.results] == ["a", "b", "c"]
        assert (await gateway.ask(**reranked)).cache.status == HIT
        world.reranker.model = "other"
        world.reranker.logit_of = {texts["a"]: 1.0, texts["b"]: 2.0, texts["c"]: 3.0}
        # Whatever is reranked tells which model it was.
        await gateway.ask("second", **reranked)
        after = await gateway.ask(**reranked)
        assert after.cache.status == MISS
        assert [item.document_id for item in after.results] == ["c", "b", "a"]
        assert (await gateway.ask(**reranked)).cache.status == HIT
        # What is not reranked stays.
        assert list((again := await gateway.ask()).results) == list(plain.results)
        assert again.cache.status == HIT


async def test_equal_searches_at_once_run_one_search(world: World) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        await gateway.kept("other")
        world.embedder.callers.clear()
        world.embedder.delay_seconds = 0.3
        answers = await asyncio.gather(*(gateway.ask() for _ in range(20)))
        assert len(world.embedder.callers) == 1
        assert {item.cache.status for item in answers} == {MISS}
        assert all(list(item.results) == list(answers[0].results) for item in answers)


async def test_a_write_while_equal_searches_run_is_seen_by_those_who_come_after(
    world: World,
) -> None:
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        await gateway.kept("other")
        world.embedder.delay_seconds = 0.3
        early = asyncio.create_task(gateway.ask())
        await asyncio.sleep(0.1)
        world.embedder.delay_seconds = 0.0
        await fill(gateway, "new")
        strong = await gateway.ask(consistency=common_pb2.CONSISTENCY_STRONG)
        assert "new" in ids(strong)
        await early
