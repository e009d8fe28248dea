"""Starts the reranker: `python -m services.reranker --help`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inference.batcher import Batcher, QueueLimits
from services.inference.cost import calibrate
from services.inference.cross_encoder import LoadedCrossEncoder, load_cross_encoder
from services.inference.loading import EngineOptions
from services.inference.source import ModelSource
from services.reranker.builtin import reranker_folder
from services.reranker.reranking import Reranker, RerankingLimits
from services.reranker.servicer import RerankerServicer
from services.reranker.settings import RerankerSettings
from services.runtime.server import TierServer, run
from sirdar.v1.reranker_pb2 import DESCRIPTOR
from sirdar.v1.reranker_pb2_grpc import add_RerankerServiceServicer_to_server


def load(settings: RerankerSettings) -> LoadedCrossEncoder:
    """The model of the settings, ready to run; blocks."""
    source = ModelSource(settings.model, settings.model_revision)
    options = EngineOptions(
        settings.engine,
        settings.precision,
        settings.threads,
        settings.cache_folder,
        settings.trust_remote_code,
    )
    return load_cross_encoder(source, reranker_folder(source), options)


@asynccontextmanager
async def wire(settings: RerankerSettings, server: TierServer) -> AsyncIterator[None]:
    """Loads and warms the model, then serves it."""
    model = await asyncio.to_thread(load, settings)
    pad, window = model.description.pad_token_id, model.description.max_tokens
    queue = QueueLimits(settings.queue_items, settings.queue_tokens, settings.queue_bytes)
    try:
        cost = await asyncio.to_thread(calibrate, model.engine, pad_token_id=pad, max_tokens=window)
        async with Batcher(
            settings.model, model.engine, pad_token_id=pad, dimensions=1, limits=queue, cost=cost
        ) as batcher:
            server.stuck.append(lambda: batcher.stuck_seconds)
            limits = RerankingLimits(settings.max_passages, settings.max_query_characters)
            servicer = RerankerServicer(
                Reranker(model, batcher, limits), server.drain, settings.stream_passages
            )
            service = DESCRIPTOR.services_by_name["RerankerService"].full_name
            server.register(add_RerankerServiceServicer_to_server, servicer, service)
            yield
    finally:
        model.close()


if __name__ == "__main__":
    run("reranker", RerankerSettings, wire)
