"""Callers of the retriever over gRPC.

The functions without an underscore block, take and give plain data, and are
for `Callers`. Messages are made before the clock runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.retriever.corpus import search_message
from sirdar.v1 import common_pb2, retriever_pb2_grpc
from sirdar.v1 import retriever_pb2 as pb

_CALL_SECONDS = 120.0
_MAX_MESSAGE_BYTES = 32 * 2**20
_RETRY_SECONDS = 0.1

# Only the type stubs have the class.
Stub: TypeAlias = "retriever_pb2_grpc.RetrieverServiceAsyncStub"


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Stub]:
    """A stub over one channel that is connected already."""
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ]
    async with grpc.aio.insecure_channel(address, options) as channel:
        await channel.channel_ready()
        yield retriever_pb2_grpc.RetrieverServiceStub(channel)  # type: ignore[misc]


def queries_per_second(
    address: str, messages: Sequence[bytes], queries: int, in_flight: int
) -> float:
    """Closed loop over serialised searches of so many queries each; all must be answered."""
    return uvloop.run(_queries_per_second(address, messages, queries, in_flight))


async def _queries_per_second(
    address: str, messages: Sequence[bytes], queries: int, in_flight: int
) -> float:
    waiting = iter([pb.SearchPassagesRequest.FromString(message) for message in messages])

    async def worker(stub: Stub) -> int:
        answered = 0
        for one in waiting:
            answered += len((await stub.SearchPassages(one, timeout=_CALL_SECONDS)).results)
        return answered

    async with connected(address) as stub:
        started = time.perf_counter()
        answered = sum(await asyncio.gather(*(worker(stub) for _ in range(in_flight))))
        seconds = time.perf_counter() - started
    if answered != queries * len(messages):
        raise RuntimeError(f"{answered} of {queries * len(messages)} queries were answered")
    return answered / seconds


def found_documents(address: str, messages: Sequence[bytes]) -> list[list[int]]:
    """The ids of the documents that each query finds, best first, message by message.

    The searches must ask for passages, not for ids alone.
    """
    return uvloop.run(_found_documents(address, messages))


async def _found_documents(address: str, messages: Sequence[bytes]) -> list[list[int]]:
    found: list[list[int]] = []
    async with connected(address) as stub:
        for message in messages:
            answer = await stub.SearchPassages(pb.SearchPassagesRequest.FromString(message))
            found += [
                [int(result.passages[one.passage].document_id) for one in result.dense]
                for result in answer.results
            ]
    return found


def single_seconds(address: str, messages: Sequence[bytes]) -> list[float]:
    """Of searches one after another."""
    return uvloop.run(_single_seconds(address, messages))


async def _single_seconds(address: str, messages: Sequence[bytes]) -> list[float]:
    requests = [pb.SearchPassagesRequest.FromString(message) for message in messages]
    async with connected(address) as stub:
        return [await _timed(stub, request) for request in requests]


async def _timed(stub: Stub, request: pb.SearchPassagesRequest) -> float:
    started = time.perf_counter()
    await stub.SearchPassages(request, timeout=_CALL_SECONDS)
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Paced:
    """What became of searches at a steady pace."""

    seconds: list[float]
    """Of those that were answered."""
    refused: int


def paced(
    address: str, messages: Sequence[bytes], calls_per_second: float, delay_seconds: float = 0.0
) -> Paced:
    """Searches sent at a steady pace whether answers come or not, after a delay."""
    return uvloop.run(_paced(address, messages, calls_per_second, delay_seconds))


async def _paced(
    address: str, messages: Sequence[bytes], calls_per_second: float, delay_seconds: float
) -> Paced:
    requests = [pb.SearchPassagesRequest.FromString(message) for message in messages]
    async with connected(address) as stub:
        await asyncio.sleep(delay_seconds)
        began = time.perf_counter()
        calls = []
        for index, request in enumerate(requests):
            await asyncio.sleep(began + index / calls_per_second - time.perf_counter())
            calls.append(asyncio.create_task(_timed(stub, request)))
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not _refused(result):
            raise result
    answered = [result for result in results if isinstance(result, float)]
    return Paced(answered, len(results) - len(answered))


@dataclass(frozen=True, slots=True)
class Written:
    """What became of writes."""

    documents: int
    """Acknowledged, so durable."""
    seconds: float
    refused: int
    """Messages, each of which was sent again until it was taken."""
    invisible: int
    """Acknowledged documents that a strong search for their own vector did not find."""


def write(
    address: str,
    messages: Sequence[bytes],
    in_flight: int,
    documents_per_second: float | None = None,
    max_seconds: float | None = None,
) -> Written:
    """Writes messages: at a pace, or without one as fast as they are acknowledged; all of
    them, or until the time is up. After each the first of its documents is searched for."""
    return uvloop.run(_write(address, messages, in_flight, documents_per_second, max_seconds))


async def _write(
    address: str,
    messages: Sequence[bytes],
    in_flight: int,
    documents_per_second: float | None,
    max_seconds: float | None,
) -> Written:
    requests = [pb.WriteDocumentsRequest.FromString(message) for message in messages]
    waiting = iter(enumerate(requests))
    documents = refused = invisible = 0
    began = time.perf_counter()

    async def worker(stub: Stub) -> None:
        nonlocal documents, refused, invisible
        for index, request in waiting:
            if documents_per_second is not None:
                due = began + index * len(request.writes) / documents_per_second
                await asyncio.sleep(due - time.perf_counter())
            if max_seconds is not None and time.perf_counter() - began > max_seconds:
                return
            refused += await _acknowledged(stub, request)
            documents += len(request.writes)
            if max_seconds is not None:
                invisible += not await _visible(stub, request)

    async with connected(address) as stub:
        await asyncio.gather(*(worker(stub) for _ in range(in_flight)))
    return Written(documents, time.perf_counter() - began, refused, invisible)


async def _acknowledged(stub: Stub, request: pb.WriteDocumentsRequest) -> int:
    """How often the write was refused before it was taken."""
    refused = 0
    while True:
        try:
            answer = await stub.WriteDocuments(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if not _refused(error):
                raise
            refused += 1
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        for outcome in answer.outcomes:
            if not outcome.HasField("receipt"):
                raise RuntimeError(f"{outcome.document_id} was not written: {outcome.error}")
        return refused


async def _visible(stub: Stub, request: pb.WriteDocumentsRequest) -> bool:
    """Whether a strong search for the first document of a write finds it."""
    write = request.writes[0]
    query = np.frombuffer(write.passages[0].vector.data, "<f4")
    search = search_message(
        request.collection,
        query[None],
        ids_only=False,
        documents_with_text=0,
        consistency=common_pb2.CONSISTENCY_STRONG,
    )
    answer = await stub.SearchPassages(search, timeout=_CALL_SECONDS)
    return any(one.document_id == write.document.id for one in answer.results[0].passages)


def _refused(error: BaseException) -> bool:
    return (
        isinstance(error, grpc.aio.AioRpcError)
        and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def searches(
    name: str, queries: NDArray[np.float32], a_message: int, **changed: object
) -> list[bytes]:
    """Serialised searches for all queries, so many a message."""
    return [
        search_message(name, queries[start : start + a_message], **changed).SerializeToString()
        for start in range(0, len(queries), a_message)
    ]
