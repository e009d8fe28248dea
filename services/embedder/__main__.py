"""Starts the embedder: `python -m services.embedder --help`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.embedder.embedding import Embedder, EmbeddingLimits
from services.embedder.servicer import EmbedderServicer
from services.embedder.settings import EmbedderSettings
from services.embedder.splitter import PassageSplitter
from services.inference.batcher import Batcher, QueueLimits
from services.inference.loading import EngineOptions, load_model
from services.inference.source import ModelSource
from services.runtime.server import TierServer, run
from sirdar.v1.embedder_pb2 import DESCRIPTOR
from sirdar.v1.embedder_pb2_grpc import add_EmbedderServiceServicer_to_server


@asynccontextmanager
async def wire(settings: EmbedderSettings, server: TierServer) -> AsyncIterator[None]:
    """Loads and warms the model, then serves it."""
    source = ModelSource(settings.model, settings.model_revision)
    options = EngineOptions(
        settings.engine, settings.precision, settings.threads, settings.cache_folder
    )
    model = await asyncio.to_thread(load_model, source, options)
    splitter = PassageSplitter(
        model.tokenizer,
        prompt=model.description.document_prompt,
        window_tokens=min(
            settings.passage_tokens or model.description.max_tokens, model.description.max_tokens
        ),
        overlap_tokens=settings.passage_overlap_tokens,
    )
    limits = EmbeddingLimits(
        settings.max_texts,
        settings.max_text_characters,
        settings.max_documents,
        settings.max_document_bytes,
    )
    batcher = Batcher(
        settings.model,
        model.engine,
        pad_token_id=model.description.pad_token_id,
        dimensions=model.description.dimensions,
        limits=QueueLimits(settings.queue_items, settings.queue_tokens),
    )
    async with batcher:
        embedder = Embedder(model, batcher, splitter, limits)
        servicer = EmbedderServicer(embedder, server.drain, settings.stream_requests)
        service = DESCRIPTOR.services_by_name["EmbedderService"].full_name
        server.register(add_EmbedderServiceServicer_to_server, servicer, service)
        yield
        embedder.close()
    model.close()


if __name__ == "__main__":
    run("embedder", EmbedderSettings, wire)
