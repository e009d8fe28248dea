"""Callers of the embedder over gRPC, each in a process of its own.

The functions without an underscore are for `Callers`.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
import numpy as np
import uvloop
from numpy.typing import NDArray

from sirdar.v1 import embedder_pb2, embedder_pb2_grpc

# Messages that a bulk stream's writer is ahead of its reader.
_STREAM_WINDOW = 16
_CALL_SECONDS = 120.0

# Only the type stubs have the class.
Stub: TypeAlias = "embedder_pb2_grpc.EmbedderServiceAsyncStub"


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Stub]:
    """A stub over one channel that is connected already."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 32 * 2**20)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        await channel.channel_ready()
        yield embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[misc]


def vectors_of(response: embedder_pb2.EmbedTextsResponse) -> int:
    """How many texts have a vector."""
    return sum(one.HasField("vector") for one in response.embeddings)


def texts_per_second(address: str, messages: Sequence[list[str]], in_flight: int) -> float:
    """Closed loop: the next message goes when an answer comes. All must be answered."""
    return uvloop.run(_texts_per_second(address, messages, in_flight))


async def _texts_per_second(address: str, messages: Sequence[list[str]], in_flight: int) -> float:
    waiting = iter([embedder_pb2.EmbedTextsRequest(texts=texts) for texts in messages])
    texts = sum(map(len, messages))

    async def worker(stub: Stub) -> int:
        return sum(
            [vectors_of(await stub.EmbedTexts(one, timeout=_CALL_SECONDS)) for one in waiting]
        )

    async with connected(address) as stub:
        started = time.perf_counter()
        answered = sum(await asyncio.gather(*(worker(stub) for _ in range(in_flight))))
        seconds = time.perf_counter() - started
    if answered != texts:
        raise RuntimeError(f"{texts - answered} of {texts} texts came back without a vector")
    return texts / seconds


def rows(address: str, messages: Sequence[list[str]]) -> NDArray[np.float32]:
    """The vectors [texts, dimensions], message by message."""
    return uvloop.run(_rows(address, messages))


async def _rows(address: str, messages: Sequence[list[str]]) -> NDArray[np.float32]:
    found = []
    async with connected(address) as stub:
        for texts in messages:
            answer = await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=texts))
            found += [np.frombuffer(one.vector.data, "<f4") for one in answer.embeddings]
    return np.stack(found)


def single_seconds(address: str, texts: Sequence[str]) -> list[float]:
    """Of a call with one text, one call after another."""
    return uvloop.run(_single_seconds(address, texts))


async def _single_seconds(address: str, texts: Sequence[str]) -> list[float]:
    async with connected(address) as stub:
        return [await _timed(stub, text) for text in texts]


def paced_seconds(
    address: str, texts: Sequence[str], calls_per_second: float, delay_seconds: float = 0.0
) -> list[float]:
    """Of calls with one text, sent at a steady pace whether answers come or not, after a delay."""
    return uvloop.run(_paced_seconds(address, texts, calls_per_second, delay_seconds))


async def _paced_seconds(
    address: str, texts: Sequence[str], calls_per_second: float, delay_seconds: float
) -> list[float]:
    async with connected(address) as stub:
        await asyncio.sleep(delay_seconds)
        began = time.perf_counter()
        calls = []
        for index, text in enumerate(texts):
            await asyncio.sleep(began + index / calls_per_second - time.perf_counter())
            calls.append(asyncio.create_task(_timed(stub, text)))
        return list(await asyncio.gather(*calls))


async def _timed(stub: Stub, text: str) -> float:
    request = embedder_pb2.EmbedTextsRequest(texts=[text])
    started = time.perf_counter()
    answer = await stub.EmbedTexts(request, timeout=_CALL_SECONDS)
    seconds = time.perf_counter() - started
    if vectors_of(answer) != 1:
        raise RuntimeError(f"{text!r} came back without a vector")
    return seconds


def streamed_texts_per_second(
    address: str, messages: Sequence[list[str]], warm_seconds: float, seconds: float
) -> float:
    """Of one StreamEmbedTexts that always has more to do, after its first `warm_seconds`."""
    return uvloop.run(_streamed(address, messages, warm_seconds, seconds))


async def _streamed(
    address: str, messages: Sequence[list[str]], warm_seconds: float, seconds: float
) -> float:
    slots = asyncio.Semaphore(_STREAM_WINDOW)
    began = time.perf_counter()
    ends = began + warm_seconds + seconds

    async def requests() -> AsyncIterator[embedder_pb2.StreamEmbedTextsRequest]:
        for texts in itertools.cycle(messages):
            await slots.acquire()
            if time.perf_counter() >= ends:
                return
            request = embedder_pb2.EmbedTextsRequest(texts=texts)
            yield embedder_pb2.StreamEmbedTextsRequest(request=request)

    answered = [(began, 0)]
    async with connected(address) as stub:
        async for event in stub.StreamEmbedTexts(requests()):
            if not event.HasField("response"):
                raise RuntimeError(f"the bulk stream was answered with {event}")
            answered.append((time.perf_counter(), vectors_of(event.response)))
            slots.release()
    return rate_between(answered, began + warm_seconds, ends)


def rate_between(answered: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """Texts a second in [start, end) by answers (when, texts) in their order.

    Answers come in bursts: between two of them work is taken to go on steadily.
    """
    times = [at for at, _ in answered]
    done = np.cumsum([texts for _, texts in answered])
    if not times or times[0] > start or times[-1] < end:
        raise RuntimeError(f"the answers do not reach from before {start:.1f} to after {end:.1f}")
    first, last = np.interp([start, end], times, done)
    return float(last - first) / (end - start)
