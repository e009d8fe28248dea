"""Searching for real, in the background, what the semantic cache answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gateway.cache.metrics import SEMANTIC_DROPPED
from sirdar.errors import SirdarError
from sirdar.v1 import search_pb2

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MAX_WAITING = 64
# One at a time, and for each second of work four of rest.
_REST = 4.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A request and what it was answered from the semantic cache, at this position."""

    request: search_pb2.SearchRequest
    answer: search_pb2.SearchResponse
    position: bytes


class Sampler:
    """`check` searches for real and tells the quality; answers whether it could."""

    def __init__(self, check: Callable[[Sample], Awaitable[bool]]) -> None:
        self._check = check
        self._waiting: asyncio.Queue[Sample] = asyncio.Queue(_MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, sample: Sample) -> None:
        """Whether a sample is dropped does not depend on its answer: what is left is fair."""
        try:
            self._waiting.put_nowait(sample)
        except asyncio.QueueFull:
            SEMANTIC_DROPPED.inc()

    async def _run(self) -> None:
        while True:
            sample = await self._waiting.get()
            started = time.monotonic()
            try:
                if not await self._check(sample):
                    SEMANTIC_DROPPED.inc()
            except SirdarError:
                SEMANTIC_DROPPED.inc()
            except Exception:
                # Were the task to end, the cache would answer unmeasured until a restart.
                SEMANTIC_DROPPED.inc()
                log.exception("a semantic hit could not be searched for real")
            await asyncio.sleep(_REST * (time.monotonic() - started))
