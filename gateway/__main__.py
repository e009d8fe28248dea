"""Starts the gateway: `python -m gateway --help`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.backends import Embedder, Reranker, Retriever
from gateway.cluster import SERVICE as CLUSTER_SERVICE
from gateway.cluster import ClusterServicer
from gateway.http.app import build_app
from gateway.http.server import HttpServer
from gateway.servicer import SERVICE, SearchServicer
from gateway.settings import GatewaySettings
from services.runtime.server import TierServer, run
from sirdar.v1 import cluster_pb2_grpc, search_pb2_grpc


@asynccontextmanager
async def wire(settings: GatewaySettings, server: TierServer) -> AsyncIterator[None]:
    limit = settings.max_message_bytes
    embedder = Embedder(settings.embedder_address, limit, settings.tier_tls)
    retriever = Retriever(settings.retriever_addresses, limit, settings.tier_tls)
    reranker = (
        Reranker(settings.reranker_address, limit, settings.tier_tls)
        if settings.reranker_address
        else None
    )
    try:
        retriever.start()
        servicer = SearchServicer(settings, server.drain, embedder, retriever, reranker)
        server.register(search_pb2_grpc.add_SearchServiceServicer_to_server, servicer, SERVICE)
        server.register(
            cluster_pb2_grpc.add_ClusterServiceServicer_to_server,
            ClusterServicer(retriever, settings.retrieve_timeout_seconds),
            CLUSTER_SERVICE,
        )
        if settings.http_port is not None:
            app = build_app(settings, server, servicer, embedder, retriever, reranker)
            http = HttpServer(settings, app)
            await http.start()
            server.beside.append(http)
        async with servicer.running():
            yield
    finally:
        await embedder.close()
        await retriever.close()
        if reranker is not None:
            await reranker.close()


if __name__ == "__main__":
    run("gateway", GatewaySettings, wire)
