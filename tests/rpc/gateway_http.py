"""A gateway over tier doubles, reached over HTTP."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import TierServer, serve
from sirdar.errors import InvalidArgument, to_status
from sirdar.v1 import common_pb2, reranker_pb2, reranker_pb2_grpc
from tests.rpc.tier_doubles import EmbedderDouble, RetrieverDouble, serving, serving_tiers


class WordReranker(reranker_pb2_grpc.RerankerServiceServicer):
    """Scores a passage by the share of the query's words that are in it.

    Never has time for all, unless the caller wants all.
    """

    async def RerankPassages(self, request: Any, context: Any) -> Any:
        words = request.options.query.split()
        response = reranker_pb2.RerankPassagesResponse()
        for passage in request.passages:
            item = response.scores.add(id=passage.id)
            if not request.options.require_all:
                item.dropped.SetInParent()
            elif passage.text:
                item.score = sum(word in passage.text for word in words) / len(words)
            else:
                item.error.CopyFrom(to_status(InvalidArgument.field("text", "must not be empty")))
        return response

    def StreamRerankPassages(self, request_iterator: Any, context: Any) -> Any:
        raise AssertionError("the gateway does not call this")

    async def ListModels(self, request: Any, context: Any) -> Any:
        model = common_pb2.ModelInfo(model=common_pb2.ModelRef(name="words"), is_default=True)
        return reranker_pb2.RerankerServiceListModelsResponse(models=[model])


@dataclass
class HttpGateway:
    http: httpx.AsyncClient
    url: str
    server: TierServer
    embedder: EmbedderDouble
    retriever: RetrieverDouble


@asynccontextmanager
async def running_http(*, reranker: bool = False, **settings: Any) -> AsyncIterator[HttpGateway]:
    """`settings` are the gateway's."""
    embedder, retriever = EmbedderDouble(), RetrieverDouble()
    async with AsyncExitStack() as held:
        addresses = await held.enter_async_context(serving_tiers(embedder, retriever))
        if reranker:
            settings["reranker_address"] = await held.enter_async_context(
                serving(
                    reranker_pb2_grpc.add_RerankerServiceServicer_to_server,
                    WordReranker(),
                    "sirdar.v1.RerankerService",
                )
            )
        gateway_settings = GatewaySettings(
            **{
                "port": 0,
                "http_port": 0,
                "metrics_port": None,
                "embedder_address": addresses[0],
                "retriever_addresses": (addresses[1],),
                **settings,
            }
        )
        server = await held.enter_async_context(serve("gateway", gateway_settings, wire))
        url = f"http://127.0.0.1:{server.beside[0].port}"
        http = await held.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        yield HttpGateway(http, url, server, embedder, retriever)


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Status and reason; the answer must be a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    value = response.json()
    assert value["status"] == response.status_code
    assert value["request_id"] == response.headers["x-request-id"]
    return response.status_code, value["reason"]
