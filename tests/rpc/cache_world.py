"""Gateways with their caches over a real retriever, and an embedder that does what it is told."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.retriever.__main__ import wire as wire_retriever
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.client import AsyncClient, Document
from sirdar.v1 import common_pb2, embedder_pb2_grpc, query_pb2, search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.rpc.tier_doubles import EmbedderDouble, RerankerDouble, serving, serving_reranker

BYPASSED = query_pb2.CACHE_STATUS_BYPASSED
MISS = query_pb2.CACHE_STATUS_MISS
HIT = query_pb2.CACHE_STATUS_EXACT_HIT


@dataclass
class Gateway:
    client: AsyncClient
    stub: SearchServiceStub

    async def ask(self, query: str = "words", **options: object) -> search_pb2.SearchResponse:
        request = search_pb2.SearchRequest(query=query, **options)  # type: ignore[arg-type]
        if not (request.collection or request.collections):
            request.collection = "notes"
        call = self.stub.Search(request, timeout=20)
        return cast(search_pb2.SearchResponse, await call)  # type: ignore[misc]

    async def kept(self, query: str = "words", **options: object) -> search_pb2.SearchResponse:
        """What is answered when all that was written is shown: it is kept."""
        return await self.ask(query, consistency=common_pb2.CONSISTENCY_STRONG, **options)


@dataclass
class World:
    folder: Path
    embedder: EmbedderDouble = field(default_factory=EmbedderDouble)
    reranker: RerankerDouble = field(default_factory=RerankerDouble)
    gateways: list[Gateway] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, *, gateways: int = 1, **settings: object) -> AsyncIterator["World"]:
        async with AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(
                serving(
                    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
                    self.embedder,
                    "sirdar.v1.EmbedderService",
                )
            )
            reranker = await stack.enter_async_context(serving_reranker(self.reranker))
            retriever_settings = RetrieverSettings(
                data_folder=self.folder, port=0, metrics_port=None
            )
            retriever = await stack.enter_async_context(
                serve("retriever", retriever_settings, wire_retriever)
            )
            given: dict[str, object] = {
                "port": 0,
                "metrics_port": None,
                "http_port": None,
                "embedder_address": embedder,
                "retriever_addresses": (f"127.0.0.1:{retriever.port}",),
                "reranker_address": reranker,
                "rerank_enabled": False,
            }
            self.gateways = []
            for _ in range(gateways):
                gateway_settings = GatewaySettings.model_validate(given | settings)
                server = await stack.enter_async_context(serve("gateway", gateway_settings, wire))
                address = f"127.0.0.1:{server.port}"
                client = await stack.enter_async_context(AsyncClient(address))
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
                self.gateways.append(Gateway(client, SearchServiceStub(channel)))
            yield self


async def fill(gateway: Gateway, *names: str, collection: str = "notes") -> None:
    documents = [Document(name, f"The text of {name}.") for name in names]
    async for outcome in gateway.client.index(collection, documents):
        assert outcome.ok, outcome.error


async def notes(gateway: Gateway, *names: str, collection: str = "notes") -> None:
    await gateway.client.create_collection(collection, schema={"kind": "keyword"})
    await fill(gateway, *(names or ("a", "b", "c")), collection=collection)


def ids(response: search_pb2.SearchResponse) -> set[str]:
    return {item.document_id for item in response.results}
