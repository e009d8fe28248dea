"""Kept answers on a real Redis: shared, bounded in what they cost, and gone without a fault."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.cache import entry as entries
from gateway.cache.entry import CacheEntry, encode
from gateway.cache.memory import MemoryCache
from gateway.cache.redis_link import RedisLink
from gateway.cache.store import AnswerStore
from sirdar.errors import DataLoss, FailedPrecondition
from tests.redis_server import RedisServer

SLOT, OTHER_SLOT = b"s" * 32, b"o" * 32
HERE, LATER = b"h" * 32, b"l" * 32
KEY = b"sirdar:search:" + SLOT.hex().encode()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    os.kill(server.process.pid, signal.SIGCONT)
    server.kill()


async def until(condition: object) -> None:
    """Waits for what a background task does; fails after 20 s."""
    assert callable(condition)
    for _ in range(2000):
        outcome = condition()
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        if outcome:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in 20 s")


@asynccontextmanager
async def linked(redis: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis.url)
    link.start()
    try:
        await until(lambda: link.up)
        yield link
    finally:
        await link.close()


def store(link: RedisLink, memory_bytes: int = 0) -> AnswerStore:
    """Without memory everything comes from Redis."""
    return AnswerStore(MemoryCache(memory_bytes), link, 60.0)


async def answer(link: RedisLink, slot: bytes = SLOT, position: bytes = HERE) -> bytes | None:
    return await store(link).get(slot, position)


async def test_what_one_keeps_another_finds_at_the_same_position_alone(redis: RedisServer) -> None:
    async with linked(redis) as one, linked(redis) as other:
        store(one).put(SLOT, HERE, b"found")
        await until(lambda: found_by(other))
        assert await answer(other, position=LATER) is None
        assert await answer(other, slot=OTHER_SLOT) is None
        # The answer after a write takes the place of the one before it.
        store(other).put(SLOT, LATER, b"later")

        async def replaced() -> bool:
            return await answer(one, position=LATER) == b"later"

        await until(replaced)
        assert await answer(one) is None


async def found_by(link: RedisLink) -> bool:
    return await answer(link) == b"found"


async def test_an_entry_of_another_version_is_a_miss_and_is_overwritten(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with linked(redis) as link, Redis.from_url(redis.url) as raw:
        with monkeypatch.context() as newer:
            newer.setattr(entries, "FORMAT_VERSION", entries.FORMAT_VERSION + 1)
            written = encode(SLOT, CacheEntry(HERE, time.time() + 60, b"of a later version"))
        await raw.set(KEY, written)
        assert await answer(link) is None
        store(link).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))


@pytest.mark.parametrize("place", range(0, 100, 3))
async def test_every_damaged_byte_is_noticed(place: int) -> None:
    data = bytearray(encode(SLOT, CacheEntry(HERE, time.time() + 60, b"an answer" * 4)))
    data[place] ^= 0x10
    with pytest.raises(DataLoss):
        entries.decode(SLOT, bytes(data))


async def test_damage_of_any_kind_is_a_miss_and_is_overwritten(redis: RedisServer) -> None:
    good = encode(SLOT, CacheEntry(HERE, time.time() + 60, b"an answer"))
    damaged = [b"", b"x", good[:-1], good + b"x", good[:9], os.urandom(200)]
    damaged.append(encode(OTHER_SLOT, CacheEntry(HERE, time.time() + 60, b"another's")))
    async with linked(redis) as link, Redis.from_url(redis.url) as raw:
        for data in damaged:
            await raw.set(KEY, data)
            assert await answer(link) is None
        store(link).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))


async def test_a_key_of_another_type_is_a_miss_and_harms_nobody(redis: RedisServer) -> None:
    async with linked(redis) as link, Redis.from_url(redis.url) as raw:
        await raw.hset(KEY, "field", "value")
        assert await answer(link) is None
        assert link.up


async def test_entries_leave_redis_when_they_are_old(redis: RedisServer) -> None:
    async with linked(redis) as link, Redis.from_url(redis.url) as raw:
        AnswerStore(MemoryCache(0), link, 60.0).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))
        assert 0 < await raw.pttl(KEY) <= 60_000
        # The age counts from when it was found, also in the memory of another gateway.
        old = AnswerStore(MemoryCache(2**20), link, 60.0, clock=lambda: time.time() + 61)
        assert await old.get(SLOT, HERE) is None


async def test_a_server_that_hangs_is_left_out_and_used_again(redis: RedisServer) -> None:
    async with linked(redis) as link:
        store(link).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))
        os.kill(redis.process.pid, signal.SIGSTOP)
        assert await asyncio.gather(*(answer(link) for _ in range(50))) == [None] * 50
        await until(lambda: not link.up)
        # It is not even asked.
        assert await answer(link) is None
        store(link).put(OTHER_SLOT, HERE, b"dropped")
        os.kill(redis.process.pid, signal.SIGCONT)
        await until(lambda: link.up)
        await until(lambda: found_by(link))
        assert await answer(link, slot=OTHER_SLOT) is None


async def test_a_server_that_is_killed_is_left_out_and_used_again(redis: RedisServer) -> None:
    async with linked(redis) as link:
        store(link).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))
        redis.kill()
        assert await asyncio.gather(*(answer(link) for _ in range(50))) == [None] * 50
        await until(lambda: not link.up)
        redis.start()
        await until(lambda: link.up)
        assert await answer(link) is None
        store(link).put(SLOT, HERE, b"found")
        await until(lambda: found_by(link))


async def test_a_server_that_is_not_there_yet_is_used_when_it_is(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    link = RedisLink(server.url)
    link.start()
    try:
        assert await answer(link) is None
        server.start()
        await until(lambda: link.up)
    finally:
        await link.close()
        server.kill()


async def test_answers_never_change_places(redis: RedisServer) -> None:
    """Callers give up in the midst, and the next ones get their own answers."""
    slots = [bytes([number]) * 32 for number in range(100)]
    async with linked(redis) as link:
        kept = store(link)
        for slot in slots:
            kept.put(slot, HERE, slot)

        async def last() -> bool:
            return await answer(link, slot=slots[-1]) == slots[-1]

        await until(last)
        for _ in range(20):
            tasks = [asyncio.create_task(answer(link, slot=slot)) for slot in slots]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for slot, outcome in zip(slots, outcomes, strict=True):
                assert outcome in (slot, None) or isinstance(outcome, asyncio.CancelledError)


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://host:port"])
def test_a_bad_address_is_refused_with_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="cache_url"):
        RedisLink(url)
