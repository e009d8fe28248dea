"""A gateway for streams of searches, over an embedder whose queries wait at gates."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import TierServer, serve
from sirdar.errors import SirdarError, from_rpc_error
from sirdar.v1 import search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.rpc.tier_doubles import (
    EmbedderDouble,
    RerankerDouble,
    RetrieverDouble,
    serving_reranker,
    serving_tiers,
)

OPINION = {"c!": 9.0, "a!": 1.0, "b!": -4.0}
# By both; the retriever alone has b, a, c.
ORDER = ["a", "c", "b"]


class GatedEmbedder(EmbedderDouble):
    """Queries named in `gates` wait for theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        self.asked.extend(request.texts)
        for text in request.texts:
            if text in self.gates:
                await self.gates[text].wait()
        return await super().EmbedTexts(request, context)


@dataclass
class Gateway:
    embedder: GatedEmbedder = field(default_factory=GatedEmbedder)
    retriever: RetrieverDouble = field(default_factory=RetrieverDouble)
    reranker: RerankerDouble = field(default_factory=lambda: RerankerDouble(dict(OPINION)))
    stub: Any = None
    server: TierServer | None = None

    def gate(self, query: str) -> asyncio.Event:
        return self.embedder.gates.setdefault(query, asyncio.Event())


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway()
    async with (
        serving_tiers(gateway.embedder, gateway.retriever) as (embedder, retriever),
        serving_reranker(gateway.reranker) as reranker,
    ):
        given = {
            "port": 0,
            "metrics_port": None,
            "http_port": None,
            "embedder_address": embedder,
            "retriever_addresses": (retriever,),
            "reranker_address": reranker,
        }
        async with (
            serve("gateway", GatewaySettings.model_validate(given | settings), wire) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            gateway.stub = SearchServiceStub(channel)
            gateway.server = server
            yield gateway
            for gate in gateway.embedder.gates.values():
                gate.set()


def search(query: str, collection: str = "notes") -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection=collection, query=query)


def item(number: int, query: str, **options: Any) -> search_pb2.StreamSearchRequest:
    collection = options.pop("collection", "notes")
    asked = search_pb2.StreamSearchItem(id=number, search=search(query, collection), **options)
    return search_pb2.StreamSearchRequest(item=asked)


def options(**values: Any) -> search_pb2.StreamSearchRequest:
    return search_pb2.StreamSearchRequest(options=search_pb2.StreamSearchOptions(**values))


def ids(outcome: search_pb2.SearchOutcome) -> list[str]:
    return [result.document_id for result in outcome.response.results]


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(2000):
        if reached():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


def refusal(error: grpc.RpcError) -> SirdarError:
    return from_rpc_error(error)
