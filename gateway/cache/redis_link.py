"""A connection to Redis that nobody waits for longer than they can bear."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.cache.metrics import REDIS_FAULTS, REDIS_UP
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# What a search waits at most: one that stalls costs less than 5 ms in all.
WAIT_SECONDS = 0.004
# A command that takes longer means a server that is gone or hangs: it is left out.
_COMMAND_SECONDS = 0.1
_PROBE_SECONDS = 0.25
_MAX_KEYS = 16
_MAX_WRITES = 256
_MAX_WAITING_BYTES = 16 * 2**20

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Write:
    key: bytes
    value: bytes
    seconds: float


class RedisLink:
    """Two connections, one that reads and one that writes, each with a task of its own.

    Whoever reads while a command is under way goes into the next one, so that
    however many read there is one command at a time, and one that gives up
    cancels no command: no answer is ever taken for another's. After a fault
    Redis is left out at once and probed every quarter of a second; then nobody
    waits for it.
    """

    def __init__(self, url: str) -> None:
        """Raises FailedPrecondition for an URL that is none of Redis's."""
        try:
            self._redis = Redis.from_url(
                url,
                max_connections=4,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=None,
                socket_connect_timeout=_COMMAND_SECONDS,
            )
        except ValueError as error:
            raise FailedPrecondition(
                f"cache_url is no address of Redis: {error}; it is redis://HOST:PORT, rediss:// "
                "with TLS, or unix://PATH",
                reason="BAD_SETTINGS",
            ) from error
        self._asked: deque[tuple[bytes, asyncio.Future[bytes | None]]] = deque()
        self._writes: deque[_Write] = deque()
        self._waiting_bytes = 0
        self._reading = asyncio.Event()
        self._writing = asyncio.Event()
        self._faulty = asyncio.Event()
        self._up = False
        # Why writes were refused, as it was said last.
        self._told = ""
        self._up_metric = REDIS_UP.labels(_address(self._redis))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """On the running loop. Redis is used once it has answered."""
        self._faulty.set()
        self._up_metric.set(0)
        self._tasks = [
            asyncio.create_task(work()) for work in (self._probe, self._read, self._write)
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._down()
        await self._redis.aclose()

    @property
    def up(self) -> bool:
        return self._up

    async def get(self, key: bytes) -> bytes | None:
        """None: there is nothing, or Redis did not say so in time."""
        if not self._up:
            return None
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked.append((key, answer))
        self._reading.set()
        try:
            return await asyncio.wait_for(answer, WAIT_SECONDS)
        except TimeoutError:
            REDIS_FAULTS.labels("timeout").inc()
            return None

    def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Later, in the background; not at all where too much waits."""
        if not self._up:
            return
        if len(self._writes) >= _MAX_WRITES or self._waiting_bytes > _MAX_WAITING_BYTES:
            REDIS_FAULTS.labels("dropped").inc()
            return
        self._writes.append(_Write(key, value, seconds))
        self._waiting_bytes += len(value)
        self._writing.set()

    async def _read(self) -> None:
        while True:
            await self._reading.wait()
            self._reading.clear()
            while self._asked:
                batch = [self._asked.popleft() for _ in range(min(_MAX_KEYS, len(self._asked)))]
                # Those who still wait.
                batch = [(key, answer) for key, answer in batch if not answer.done()]
                if batch:
                    await self._answer(batch)

    async def _answer(self, batch: list[tuple[bytes, asyncio.Future[bytes | None]]]) -> None:
        mget: Awaitable[Any] = self._redis.mget([key for key, _ in batch])
        values = await self._command(mget)
        if values is None:
            values = [None] * len(batch)
        elif not _are_values(values, len(batch)):
            self._fail("error", f"an answer that makes no sense: {str(values)[:100]}")
            values = [None] * len(batch)
        for (_, answer), value in zip(batch, values, strict=True):
            if not answer.done():
                answer.set_result(value)

    async def _write(self) -> None:
        while True:
            await self._writing.wait()
            self._writing.clear()
            while self._writes:
                batch = [self._writes.popleft() for _ in range(min(_MAX_KEYS, len(self._writes)))]
                self._waiting_bytes -= sum(len(item.value) for item in batch)
                pipeline = self._redis.pipeline(transaction=False)
                for item in batch:
                    pipeline.set(item.key, item.value, px=max(1, round(item.seconds * 1000)))
                outcomes = await self._command(pipeline.execute(raise_on_error=False))
                self._note_refusals(outcomes or [])

    async def _command(self, command: Awaitable[R]) -> R | None:
        """None where it fails, and then Redis is left out."""
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                return await command
        except TimeoutError:
            self._fail("timeout", f"no answer in {_COMMAND_SECONDS} s")
        except Exception as error:  # noqa: BLE001 - of what is no Redis anything may come
            self._fail("error", str(error) or repr(error))
        return None

    def _note_refusals(self, outcomes: Sequence[object]) -> None:
        """A server that refuses writes, as it is full or a replica, is there, and is read."""
        refused = [one for one in outcomes if isinstance(one, Exception)]
        if refused:
            REDIS_FAULTS.labels("refused").inc(len(refused))
        told = str(refused[0]) if refused else ""
        if told and told != self._told:
            log.warning("redis refuses what is to be kept", fault=told)
        if outcomes:
            self._told = told

    def _fail(self, kind: str, detail: str) -> None:
        REDIS_FAULTS.labels(kind).inc()
        if self._up:
            log.warning("redis is left out until it answers again", fault=detail)
        self._down()
        self._faulty.set()

    def _down(self) -> None:
        """Who waits goes on without it, and what was to be written is forgotten."""
        self._up = False
        self._up_metric.set(0)
        self._writes.clear()
        self._waiting_bytes = 0
        for _, answer in self._asked:
            if not answer.done():
                answer.set_result(None)
        self._asked.clear()

    async def _ping(self) -> str | None:
        """What is wrong with it."""
        ping: Any = self._redis.ping
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                # Connections may hold half an answer.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                return None if await ping() else "an answer that makes no sense"
        except TimeoutError:
            return f"no answer in {_PROBE_SECONDS} s"
        except Exception as error:  # noqa: BLE001 - of what is no Redis anything may come
            return str(error) or repr(error)

    async def _probe(self) -> None:
        told = ""
        while True:
            await self._faulty.wait()
            fault = await self._ping()
            if fault is not None:
                if fault != told:
                    log.warning("redis does not answer", fault=fault)
                    told = fault
                await asyncio.sleep(_PROBE_SECONDS)
                continue
            told = ""
            self._faulty.clear()
            self._up = True
            self._up_metric.set(1)
            log.info("redis answers")


def _are_values(values: object, count: int) -> bool:
    """Not decoded, so bytes, or nothing."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(value is None or isinstance(value, bytes) for value in values)
    )


def _address(redis: Redis) -> str:
    """Of the server, without what is secret in its URL."""
    connection = redis.connection_pool.connection_kwargs
    if path := connection.get("path"):
        return str(path)
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"
