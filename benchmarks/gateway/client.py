"""Callers of the gateway and of no-op tiers, each in a process of its own, for `Callers`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
import uvloop

from sirdar.client import AsyncClient, Document, RerankSettings
from sirdar.v1 import (
    document_pb2,
    embedder_pb2,
    embedder_pb2_grpc,
    query_pb2,
    retriever_pb2,
    retriever_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

_CALL_SECONDS = 120.0
# What a user would wait for.
_WATCHED_SECONDS = 5.0
NOOP_COLLECTION = "noop"


# Only the type stubs have these classes.
SearchStub: TypeAlias = "search_pb2_grpc.SearchServiceAsyncStub"
EmbedderStub: TypeAlias = "embedder_pb2_grpc.EmbedderServiceAsyncStub"
RetrieverStub: TypeAlias = "retriever_pb2_grpc.RetrieverServiceAsyncStub"


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Any]:
    """A channel that is connected already; the stubs' own types know of blocking ones."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 32 * 2**20)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        await channel.channel_ready()
        yield channel


@asynccontextmanager
async def searching(address: str) -> AsyncIterator[SearchStub]:
    """A stub of the gateway without retries of its own."""
    async with _connected(address) as channel:
        yield cast(SearchStub, search_pb2_grpc.SearchServiceStub(channel))


@asynccontextmanager
async def embedding(address: str) -> AsyncIterator[EmbedderStub]:
    async with _connected(address) as channel:
        yield cast(EmbedderStub, embedder_pb2_grpc.EmbedderServiceStub(channel))


def paced_search_seconds(address: str, a_second: float, seconds: float) -> list[float]:
    """Of searches at a steady pace, each from the moment that it was due."""
    return uvloop.run(_paced_search_seconds(address, a_second, seconds))


async def _paced_search_seconds(address: str, a_second: float, seconds: float) -> list[float]:
    request = search_pb2.SearchRequest(
        collection=NOOP_COLLECTION,
        query="what was asked for",
        cache=query_pb2.CACHE_USE_NONE,
    )
    async with searching(address) as stub:

        async def search() -> None:
            assert len((await stub.Search(request)).results) == 10

        return await _paced(search, a_second, seconds)


def paced_tier_seconds(address: str, a_second: float, seconds: float) -> list[float]:
    """Of the calls that such a search makes of the tiers, made one after the other."""
    return uvloop.run(_paced_tier_seconds(address, a_second, seconds))


async def _paced_tier_seconds(address: str, a_second: float, seconds: float) -> list[float]:
    text = embedder_pb2.EmbedTextsRequest(texts=["what was asked for"])
    query = retriever_pb2.PassageQuery(lexical="what was asked for")
    passages = retriever_pb2.SearchPassagesRequest(
        collection=NOOP_COLLECTION, queries=[query], candidates=30
    )
    async with _connected(address) as channel:
        embedder = cast(EmbedderStub, embedder_pb2_grpc.EmbedderServiceStub(channel))
        retriever = cast(RetrieverStub, retriever_pb2_grpc.RetrieverServiceStub(channel))

        async def calls() -> None:
            await embedder.EmbedTexts(text)
            await retriever.SearchPassages(passages)

        return await _paced(calls, a_second, seconds)


async def _paced(
    call: Callable[[], Awaitable[None]], a_second: float, seconds: float
) -> list[float]:
    taken: list[float] = []

    async def one(due: float) -> None:
        await call()
        taken.append(time.perf_counter() - due)

    for _ in range(64):
        await call()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(round(a_second * seconds)):
            due = started + number / a_second
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(one(due))
    return taken


def indexed_passages_per_second(
    address: str, collection: str, documents: Sequence[Document]
) -> float:
    """End to end: each passage acknowledged as durable."""
    return uvloop.run(_indexed_passages_per_second(address, collection, documents))


async def _indexed_passages_per_second(
    address: str, collection: str, documents: Sequence[Document]
) -> float:
    async with AsyncClient(address) as client:
        await client.create_collection(collection)
        passages = 0
        started = time.perf_counter()
        async for outcome in client.index(collection, documents):
            if outcome.receipt is None:
                raise RuntimeError(f"{outcome.document_id} was refused: {outcome.error}")
            passages += outcome.receipt.passages
        return passages / (time.perf_counter() - started)


def embedded_passages_per_second(
    address: str, documents: Sequence[Document], a_call: int, in_flight: int
) -> float:
    """The embedder's own: documents to passages and vectors, so many a call."""
    return uvloop.run(_embedded_passages_per_second(address, documents, a_call, in_flight))


async def _embedded_passages_per_second(
    address: str, documents: Sequence[Document], a_call: int, in_flight: int
) -> float:
    messages = [
        document_pb2.Document(id=one.id, title=one.title, text=one.text) for one in documents
    ]
    waiting = iter(
        [
            embedder_pb2.EmbedDocumentsRequest(documents=messages[start : start + a_call])
            for start in range(0, len(messages), a_call)
        ]
    )
    async with embedding(address) as stub:

        async def worker() -> int:
            passages = 0
            for request in waiting:
                answer = await stub.EmbedDocuments(request, timeout=_CALL_SECONDS)
                passages += sum(len(item.embedded.passages) for item in answer.documents)
            return passages

        started = time.perf_counter()
        passages = sum(await asyncio.gather(*(worker() for _ in range(in_flight))))
        return passages / (time.perf_counter() - started)


def searches_per_second(
    address: str, collection: str, queries: Sequence[str], mode: str, in_flight: int
) -> float:
    """Closed loop without reranking; all must be answered whole."""
    return uvloop.run(_searches_per_second(address, collection, queries, mode, in_flight))


async def _searches_per_second(
    address: str, collection: str, queries: Sequence[str], mode: str, in_flight: int
) -> float:
    waiting = iter(queries)
    async with AsyncClient(address) as client:

        async def worker() -> None:
            for query in waiting:
                answer = await client.search(
                    collection,
                    query,
                    mode=mode,
                    rerank=RerankSettings(enabled=False),
                    cache="none",
                )
                if answer.degraded:
                    raise RuntimeError(f"the answer to {query!r} is less than whole")

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return len(queries) / (time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class Watched:
    """A search as it went; `started` is on time.time()."""

    started: float
    seconds: float
    failed: bool
    degraded: bool


def watched(
    address: str, collection: str, queries: Sequence[str], a_second: float, seconds: float
) -> list[Watched]:
    """Searches at a steady pace, hybrid and reranked, each sent once whatever becomes of it."""
    return uvloop.run(_watched(address, collection, queries, a_second, seconds))


async def _watched(
    address: str, collection: str, queries: Sequence[str], a_second: float, seconds: float
) -> list[Watched]:
    seen: list[Watched] = []
    async with searching(address) as stub:

        async def search(query: str) -> None:
            request = search_pb2.SearchRequest(
                collection=collection,
                query=query,
                mode=query_pb2.SEARCH_MODE_HYBRID,
            )
            request.rerank.enabled = True
            request.rerank.depth = 4
            started, began = time.time(), time.perf_counter()
            failed = degraded = False
            try:
                answer = await stub.Search(request, timeout=_WATCHED_SECONDS)
                degraded = bool(answer.degraded)
            except grpc.aio.AioRpcError as error:
                print(f"failed: {error.code().name}: {error.details()}", flush=True)
                failed = True
            seen.append(Watched(started, time.perf_counter() - began, failed, degraded))

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(round(a_second * seconds)):
                await asyncio.sleep(began + number / a_second - time.perf_counter())
                group.create_task(search(queries[number % len(queries)]))
    return sorted(seen, key=lambda one: one.started)
