"""What calls itself Redis, and answers what Redis does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.cache.redis_link import RedisLink


@dataclass
class Impostor:
    """Answers each command as it is told, else as Redis would."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def until_asked(self, command: str, times: int) -> None:
        """Fails after 20 s."""
        for _ in range(2000):
            if self.asked.count(command) >= times:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"no {command} came in 20 s")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                command = words[0].decode().upper()
                self.asked.append(command)
                usual = {"PING": b"+PONG\r\n", "MGET": b"*%d\r\n" % (len(words) - 1)}
                if command == "MGET":
                    usual["MGET"] += b"$4\r\ngood\r\n" * (len(words) - 1)
                writer.write(self.answers.get(command, usual.get(command, b"+OK\r\n")))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def impostor() -> AsyncIterator[tuple[Impostor, RedisLink]]:
    redis = Impostor()
    server = await asyncio.start_server(redis.serve, "127.0.0.1", 0)
    redis.port = server.sockets[0].getsockname()[1]
    link = RedisLink(f"redis://127.0.0.1:{redis.port}/0")
    link.start()
    try:
        yield redis, link
    finally:
        await link.close()
        server.close()


async def answers(link: RedisLink, wanted: bytes | None) -> None:
    """Waits until it does; fails after 20 s."""
    for _ in range(2000):
        if link.up and await link.get(b"key") == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come in 20 s")


GARBAGE = {
    "a word": b"+OK\r\n",
    "nothing": b"*0\r\n",
    "too many": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "a number": b"*1\r\n:5\r\n",
    "a list in the list": b"*1\r\n*1\r\n$1\r\na\r\n",
    "a number that is none": b":abc\r\n",
    "a size that is none": b"*x\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes": b"\x00\xff\xfe\r\n",
    "a size before the first": b"*1\r\n$-7\r\n",
    "lists without end": b"*1\r\n" * 3000,
    "an error": b"-ERR no\r\n",
    "an error in the list": b"*1\r\n-ERR no\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_nothing_and_is_got_over(what: str) -> None:
    async with impostor() as (redis, link):
        await answers(link, b"good")
        redis.answers["MGET"] = GARBAGE[what]
        for _ in range(20):
            assert await link.get(b"key") is None
        del redis.answers["MGET"]
        await answers(link, b"good")


@pytest.mark.parametrize("what", ["a number that is none", "no protocol", "lists without end"])
async def test_garbage_to_the_probe_is_got_over(what: str) -> None:
    async with impostor() as (redis, link):
        redis.answers["PING"] = GARBAGE[what]
        await redis.until_asked("PING", 2)
        assert not link.up
        del redis.answers["PING"]
        await answers(link, b"good")


async def test_what_is_no_pong_is_no_redis() -> None:
    async with impostor() as (redis, link):
        redis.answers["PING"] = b"+NO\r\n"
        await redis.until_asked("PING", 3)
        assert not link.up


@pytest.mark.parametrize("what", ["a number that is none", "no protocol"])
async def test_garbage_to_a_write_is_got_over(what: str) -> None:
    async with impostor() as (redis, link):
        await answers(link, b"good")
        redis.answers["SET"] = GARBAGE[what]
        link.put(b"key", b"value", 60.0)
        await redis.until_asked("SET", 1)
        del redis.answers["SET"]
        await answers(link, b"good")
        link.put(b"key", b"value", 60.0)
        await redis.until_asked("SET", 2)


async def test_a_redis_that_refuses_writes_is_read_all_the_same() -> None:
    """One that is full, or a replica."""
    async with impostor() as (redis, link):
        await answers(link, b"good")
        redis.answers["SET"] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        for number in range(20):
            link.put(b"key%d" % number, b"value", 60.0)
        await redis.until_asked("SET", 20)
        assert link.up
        await answers(link, b"good")
