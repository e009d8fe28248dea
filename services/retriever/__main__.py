"""Runs the retriever: `python -m services.retriever`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.retriever.opening import open_retriever
from services.retriever.servicer import RetrieverServicer
from services.retriever.settings import RetrieverSettings
from services.retriever.trim import bound_heap
from services.runtime.server import TierServer, run
from sirdar.v1 import retriever_pb2, retriever_pb2_grpc

SERVICE = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name


@asynccontextmanager
async def wire(settings: RetrieverSettings, server: TierServer) -> AsyncIterator[None]:
    async with open_retriever(settings) as retriever:
        server.register(
            retriever_pb2_grpc.add_RetrieverServiceServicer_to_server,
            RetrieverServicer(retriever, settings),
            SERVICE,
        )
        yield


if __name__ == "__main__":
    bound_heap()
    run("retriever", RetrieverSettings, wire)
