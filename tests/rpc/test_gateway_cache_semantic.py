"""Answers that were kept for a query that means nearly the same."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gateway.cache import dropped
from sirdar.v1 import query_pb2
from tests.rpc.cache_world import MISS, World, fill, ids, notes

SEMANTIC = query_pb2.CACHE_USE_SEMANTIC


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


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
        # An explanation is of the query that was asked.
        explained = await gateway.ask("ships leave when?", **{**dense, "explain": True})
        assert explained.cache.status == MISS
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


async def test_what_was_measured_of_a_collection_goes_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropped, "_PERIOD_SECONDS", 0.02)
    labels = {"tenant": "default", "collection": "brief"}

    def serving() -> float | None:
        return REGISTRY.get_sample_value("sirdar_gateway_cache_semantic_serving", labels)

    async with world.running():
        (gateway,) = world.gateways
        await notes(gateway, collection="brief")
        await notes(gateway, collection="answers")
        for name in ("brief", "answers"):
            await gateway.kept(collection=name, cache=SEMANTIC)
        assert serving() == 1
        await gateway.client.delete_collection("brief")
        await until(lambda: serving() is None)
        labels["collection"] = "answers"
        assert serving() == 1


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")
