"""Starts the embedder: `python -m services.embedder --help`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.embedder.documents import DocumentEmbedder
from services.embedder.limits import EmbeddingLimits
from services.embedder.models import Models
from services.embedder.served_model import ServingOptions, load_served_model
from services.embedder.servicer import EmbedderServicer
from services.embedder.settings import EmbedderSettings
from services.embedder.texts import TextEmbedder
from services.inference.admission import QueueLimits
from services.inference.loading import EngineOptions
from services.runtime.server import TierServer, run
from sirdar.v1.embedder_pb2 import DESCRIPTOR
from sirdar.v1.embedder_pb2_grpc import add_EmbedderServiceServicer_to_server


@asynccontextmanager
async def wire(settings: EmbedderSettings, server: TierServer) -> AsyncIterator[None]:
    """Loads and warms the models, then serves them."""
    options = ServingOptions(
        EngineOptions(
            settings.engine,
            settings.precision,
            settings.threads,
            settings.cache_folder,
            settings.trust_remote_code,
        ),
        QueueLimits(settings.queue_items, settings.queue_tokens, settings.queue_bytes),
        settings.passage_tokens,
        settings.passage_overlap_tokens,
    )
    load = partial(load_served_model, options=options)
    async with Models(load, most=settings.max_models, managed=settings.manage_models) as models:
        for source in settings.sources:
            await models.load(source)
        server.stuck.append(lambda: models.stuck_seconds)
        limits = EmbeddingLimits(
            settings.max_texts,
            settings.max_text_characters,
            settings.max_documents,
            settings.max_document_bytes,
        )
        documents = DocumentEmbedder(models, limits)
        servicer = EmbedderServicer(
            models, TextEmbedder(models, limits), documents, server.drain, settings.stream_requests
        )
        service = DESCRIPTOR.services_by_name["EmbedderService"].full_name
        server.register(add_EmbedderServiceServicer_to_server, servicer, service)
        try:
            yield
        finally:
            documents.close()


if __name__ == "__main__":
    run("embedder", EmbedderSettings, wire)
