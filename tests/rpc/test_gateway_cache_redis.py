"""Kept answers that gateways share through a real Redis."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sirdar.errors import Unavailable
from sirdar.v1 import common_pb2
from tests.redis_server import RedisServer
from tests.rpc.cache_world import HIT, MISS, Gateway, World, fill, ids, notes


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
