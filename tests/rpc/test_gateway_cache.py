"""Kept answers through real gateways, a real retriever and a real Redis."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
import pytest
from prometheus_client import REGISTRY

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.retriever.__main__ import wire as wire_retriever
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.client import AsyncClient, Document
from sirdar.errors import InvalidArgument, Unavailable, from_rpc_error
from sirdar.v1 import collection_pb2, common_pb2, embedder_pb2_grpc, query_pb2, search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.redis_server import RedisServer
from tests.rpc.tier_doubles import EmbedderDouble, serving

BYPASSED = query_pb2.CACHE_STATUS_BYPASSED
MISS = query_pb2.CACHE_STATUS_MISS
HIT = query_pb2.CACHE_STATUS_EXACT_HIT


@dataclass
class Gateway:
    client: AsyncClient
    stub: SearchServiceStub

    async def ask(self, query: str = "words", **options: object) -> search_pb2.SearchResponse:
        request = search_pb2.SearchRequest(query=query, **options)  # type: ignore[arg-type]
        if not (request.collection or request.collections):
            request.collection = "notes"
        call = self.stub.Search(request, timeout=20)
        return cast(search_pb2.SearchResponse, await call)  # type: ignore[misc]

    async def kept(self, query: str = "words", **options: object) -> search_pb2.SearchResponse:
        """What is answered when all that was written is shown: it is kept."""
        return await self.ask(query, consistency=common_pb2.CONSISTENCY_STRONG, **options)


@dataclass
class World:
    folder: Path
    embedder: EmbedderDouble = field(default_factory=EmbedderDouble)
    gateways: list[Gateway] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, *, gateways: int = 1, **settings: object) -> AsyncIterator["World"]:
        async with AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(
                serving(
                    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
                    self.embedder,
                    "sirdar.v1.EmbedderService",
                )
            )
            retriever_settings = RetrieverSettings(
                data_folder=self.folder, port=0, metrics_port=None
            )
            retriever = await stack.enter_async_context(
                serve("retriever", retriever_settings, wire_retriever)
            )
            given: dict[str, object] = {
                "port": 0,
                "metrics_port": None,
                "http_port": None,
                "embedder_address": embedder,
                "retriever_addresses": (f"127.0.0.1:{retriever.port}",),
            }
            self.gateways = []
            for _ in range(gateways):
                gateway_settings = GatewaySettings.model_validate(given | settings)
                server = await stack.enter_async_context(serve("gateway", gateway_settings, wire))
                address = f"127.0.0.1:{server.port}"
                client = await stack.enter_async_context(AsyncClient(address))
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
                self.gateways.append(Gateway(client, SearchServiceStub(channel)))
            yield self


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    os.kill(server.process.pid, signal.SIGCONT)
    server.kill()


async def fill(gateway: Gateway, *names: str, collection: str = "notes") -> None:
    documents = [Document(name, f"The text of {name}.") for name in names]
    async for outcome in gateway.client.index(collection, documents):
        assert outcome.ok, outcome.error


async def notes(gateway: Gateway, *names: str, collection: str = "notes") -> None:
    await gateway.client.create_collection(collection, schema={"kind": "keyword"})
    await fill(gateway, *(names or ("a", "b", "c")), collection=collection)


def ids(response: search_pb2.SearchResponse) -> set[str]:
    return {item.document_id for item in response.results}


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


async def test_gateways_share_answers_through_redis(world: World, redis: RedisServer) -> None:
    async with world.running(gateways=2, cache_url=redis.url):
        one, other = world.gateways
        await notes(one)
        await _until(lambda: _hits(other, one))
        world.embedder.failures = [Unavailable("away")] * 50
        assert (await other.ask()).cache.status == HIT
        world.embedder.failures = []
        await fill(other, "new")
        fresh = await one.ask(consistency=common_pb2.CONSISTENCY_STRONG)
        assert fresh.cache.status == MISS
        assert "new" in ids(fresh)


async def _hits(other: Gateway, one: Gateway) -> bool:
    """Whether one finds what the other kept; each query is asked once by each."""
    _hits_asked.append(f"query {len(_hits_asked)}")
    first = await one.kept(_hits_asked[-1])
    await asyncio.sleep(0.02)
    second = await other.ask(_hits_asked[-1])
    if second.cache.status == HIT:
        assert list(second.results) == list(first.results)
        await one.kept()
        await asyncio.sleep(0.1)
        return True
    return False


_hits_asked: list[str] = []


async def _until(condition: Callable[[], object]) -> None:
    for _ in range(300):
        outcome = condition()
        assert asyncio.iscoroutine(outcome)
        if await outcome:
            return
    raise AssertionError("it did not happen")


async def test_answers_go_on_while_redis_hangs_and_when_it_is_killed(
    world: World, redis: RedisServer
) -> None:
    async with world.running(gateways=2, cache_url=redis.url):
        one, other = world.gateways
        await notes(one)
        await _until(lambda: _hits(other, one))
        os.kill(redis.process.pid, signal.SIGSTOP)
        answers = await asyncio.gather(*(one.ask(f"hung {at}") for at in range(30)))
        assert {item.cache.status for item in answers} == {MISS}
        # In process they are kept all the same.
        again = await asyncio.gather(*(one.ask(f"hung {at}") for at in range(30)))
        assert {item.cache.status for item in again} == {HIT}
        redis.kill()
        assert (await one.ask("killed")).cache.status == MISS
        assert (await one.ask("killed")).cache.status == HIT
        redis.start()
        await _until(lambda: _hits(other, one))


SEMANTIC = query_pb2.CACHE_USE_SEMANTIC


def false_hits(bound: str = "estimate") -> float:
    """As Prometheus sees it; counted for the whole process, so the collection has its own name."""
    labels = {"tenant": "default", "collection": "answers", "bound": bound}
    name = "sirdar_gateway_cache_semantic_false_hits_ratio"
    return REGISTRY.get_sample_value(name, labels) or 0.0


def compared() -> float:
    name = "sirdar_gateway_cache_semantic_overlap_count"
    labels = {"tenant": "default", "collection": "answers"}
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_query_that_means_nearly_the_same_is_answered_where_that_is_asked_for(
    world: World,
) -> None:
    world.embedder.word = "ships"
    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway)
        dense = {"mode": query_pb2.SEARCH_MODE_DENSE, "cache": SEMANTIC}
        assert (await gateway.kept("when do ships leave?", **dense)).cache.status == MISS
        near = await gateway.ask("ships leave when?", **dense)
        assert near.cache.status == query_pb2.CACHE_STATUS_SEMANTIC_HIT
        assert near.cache.similarity == pytest.approx(1.0)
        far = await gateway.ask("who eats honey?", **dense)
        assert far.cache.status == MISS
        other_shape = await gateway.ask("ships leave when?", **{**dense, "top_k": 2})
        assert other_shape.cache.status == MISS
        # Off by default.
        plain = await gateway.ask("do ships leave?", mode=query_pb2.SEARCH_MODE_DENSE)
        assert plain.cache.status == MISS
        await fill(gateway, "new")
        assert (await gateway.ask("ships leave when?", **dense)).cache.status == MISS


async def test_the_semantic_cache_measures_itself_and_turns_itself_off(world: World) -> None:
    """All queries look alike to the embedder, and differ by their words."""
    async with world.running(cache_semantic_floor=0.9):
        (gateway,) = world.gateways
        words = [f"w{number}" for number in range(60)]
        await notes(gateway, *words, collection="answers")
        asked = {
            "collection": "answers",
            "mode": query_pb2.SEARCH_MODE_HYBRID,
            "top_k": 1,
            "cache": SEMANTIC,
            "fusion": query_pb2.Fusion(dense_weight=0.0, lexical_weight=1.0),
        }
        first = await gateway.kept("w0", **asked)
        assert ids(first) == {"w0"}
        # Every second hit is false.
        for number in range(1, 15):
            query = f"w{number}" if number % 2 else "w0 " * (number + 1)
            response = await gateway.ask(query, **asked)
            assert response.cache.status == query_pb2.CACHE_STATUS_SEMANTIC_HIT
            assert ids(response) == {"w0"}
        await until(lambda: compared() == 14)
        assert false_hits() == 0.5
        assert false_hits("low") < 0.5 < false_hits("high")
        for number in range(20, 60):
            response = await gateway.ask(f"w{number}", **asked)
            if response.cache.status == query_pb2.CACHE_STATUS_SEMANTIC_OFF:
                break
            seen = compared()
            await until(lambda seen=seen: compared() > seen)  # type: ignore[misc]
        else:
            raise AssertionError("it did not turn itself off")
        # From now on answers are real, and say why.
        response = await gateway.ask("w59", **asked)
        assert response.cache.status == query_pb2.CACHE_STATUS_SEMANTIC_OFF
        assert ids(response) == {"w59"}


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")
