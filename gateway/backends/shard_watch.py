"""Hearing what the retrievers announce, for as long as the gateway runs."""

import asyncio
from collections.abc import Sequence

import grpc
import structlog

from gateway.backends.picture import Picture
from sirdar.v1 import retriever_pb2, retriever_pb2_grpc

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# A heartbeat comes each second.
_SILENCE_SECONDS = 5.0
# Before another try after one that failed, twice as long each time, and how long at most; one that
# is older may be replaced by a newer one.
_PAUSE_SECONDS, _MOST_SECONDS, _OLDER_SECONDS = 0.1, 1.6, 15.0


class ShardWatch:
    """A stream to each retriever; the picture has what they say."""

    def __init__(
        self, stubs: "Sequence[retriever_pb2_grpc.RetrieverServiceAsyncStub]", picture: Picture
    ) -> None:
        self._stubs = stubs
        self._picture = picture
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(at)) for at in range(len(self._stubs))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, place: int) -> None:
        pause = _PAUSE_SECONDS
        while True:
            try:
                if await self._hear(place):
                    pause = _PAUSE_SECONDS
            except grpc.aio.AioRpcError as failed:
                if failed.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._picture.older(place)
                    pause = _OLDER_SECONDS
            except Exception:
                # An announcement that makes no sense; without this task there were none ever more.
                log.exception("what a retriever announces cannot be read", place=place)
            self._picture.lost(place)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST_SECONDS)

    async def _hear(self, place: int) -> bool:
        """Until the stream ends, or says nothing for too long; whether it has said anything.
        Raises AioRpcError."""
        stream = self._stubs[place].WatchShards(retriever_pb2.WatchShardsRequest())
        first: list[retriever_pb2.ShardAnnouncement] | None = []
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    message = await stream.read()
                if not isinstance(message, retriever_pb2.WatchShardsResponse):
                    return first is None
                if first is None:
                    self._picture.change(place, message.shards)
                else:
                    first.extend(message.shards)
                    if message.more:
                        continue
                    self._picture.begin(place, first)
                    first = None
                self._picture.takes_writes(place, message.accepts_writes)
        except TimeoutError:
            return first is None
        finally:
            stream.cancel()
