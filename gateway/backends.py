"""Typed clients of the tiers: deadlines, retries and errors that name the tier."""

import math
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import ClientTls, open_channel
from services.runtime.deadline import outgoing_timeout, remaining_seconds
from services.runtime.interceptors import CALLER, REQUEST_ID, request_id
from sirdar.errors import DeadlineExceeded, SirdarError, Unavailable, from_rpc_error, from_status
from sirdar.v1 import (
    common_pb2,
    document_pb2,
    embedder_pb2,
    embedder_pb2_grpc,
    reranker_pb2,
    reranker_pb2_grpc,
    retriever_pb2,
    retriever_pb2_grpc,
)

# Metadata has 8 KiB in all; names that differ only after so many characters share.
_TENANT_CHARACTERS = 256
_tenant: ContextVar[str] = ContextVar("tenant", default="")
# An embedder that is older says nothing of a model's state.
_NOT_SERVED = {common_pb2.MODEL_STATE_LOADING, common_pb2.MODEL_STATE_UNLOADING}

Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)


def call_for(namespace: str) -> None:
    """Tells the tiers whom the calls after this are for: their work is shared fairly between
    tenants, and not between the gateways that they come through."""
    _tenant.set(quote(namespace, safe="")[:_TENANT_CHARACTERS])


class Method(Protocol[Reply_co]):
    def __call__(
        self, request: Any, *, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> Awaitable[Reply_co]: ...


class Tier:
    """A tier behind a channel."""

    def __init__(self, name: str, address: str, channel: grpc.aio.Channel) -> None:
        self.name = name
        self._address = address
        self._channel = channel
        self._health = health_pb2_grpc.HealthStub(channel)

    async def close(self) -> None:
        await self._channel.close()

    async def serving(self, limit_seconds: float) -> bool:
        """Whether the tier can be reached and says that it is SERVING."""
        try:
            answer = await self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=outgoing_timeout(limit_seconds)
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def call(self, method: Method[Reply], request: Any, limit_seconds: float) -> Reply:
        """Calls with the time that is left, at most the limit.

        Raises the tier's own error; Unavailable with reason
        `<TIER>_UNREACHABLE` when nothing answers.
        """
        timeout = outgoing_timeout(limit_seconds)
        metadata: tuple[tuple[str, str], ...] = ((REQUEST_ID, request_id()),)
        if tenant := _tenant.get():
            metadata = (*metadata, (CALLER, tenant))
        try:
            return await method(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as failed:
            raise self._explain(from_rpc_error(failed), timeout) from failed

    def _explain(self, error: SirdarError, timeout: float) -> SirdarError:
        if error.reason != error.default_reason:
            return error
        if isinstance(error, Unavailable):
            return Unavailable(
                f"the {self.name} at {self._address} cannot be reached; check that it runs",
                reason=f"{self.name.upper()}_UNREACHABLE",
            )
        if isinstance(error, DeadlineExceeded) and remaining_seconds() != 0.0:
            return DeadlineExceeded(
                f"the {self.name} did not answer within {timeout:.3g} s",
                reason=f"{self.name.upper()}_TIMEOUT",
            )
        return error


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query in a space; the vector stays as it travels."""

    vector: common_pb2.Vector
    space: common_pb2.EmbeddingSpace


@dataclass(frozen=True, slots=True)
class Logits:
    """What the reranker says of passages, by their places; of those in neither it refused."""

    known: dict[int, float]
    dropped: frozenset[int]
    """Those that it had no time for."""


class Embedder(Tier):
    """Client of the embedder."""

    def __init__(self, address: str, max_message_bytes: int, tls: ClientTls | None) -> None:
        channel = open_channel(
            address,
            # Embedding has no effects: all of it may run twice.
            retry_methods=["sirdar.v1.EmbedderService"],
            max_message_bytes=max_message_bytes,
            tls=tls,
        )
        super().__init__("embedder", address, channel)
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = (
            embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[assignment]
        )

    async def embed_query(
        self, text: str, model: common_pb2.ModelRef, fingerprint: str, limit_seconds: float
    ) -> EmbeddedQuery:
        """Raises FailedPrecondition when the embedder serves another space."""
        request = embedder_pb2.EmbedTextsRequest(
            model=model,
            texts=[text],
            input_type=embedder_pb2.INPUT_TYPE_QUERY,
            expected_fingerprint=fingerprint,
        )
        response = await self.call(self._stub.EmbedTexts, request, limit_seconds)
        embedding = response.embeddings[0]
        if embedding.HasField("error"):
            raise from_status(embedding.error)
        return EmbeddedQuery(embedding.vector, response.space)

    async def embed_sentences(
        self, texts: Sequence[str], space: common_pb2.EmbeddingSpace, limit_seconds: float
    ) -> list[common_pb2.Vector | None]:
        """A vector a text, None where the model refuses it."""
        request = embedder_pb2.EmbedTextsRequest(
            model=space.model,
            texts=texts,
            input_type=embedder_pb2.INPUT_TYPE_DOCUMENT,
            expected_fingerprint=space.fingerprint,
            # However many sentences: a user waits for the highlights.
            priority=common_pb2.PRIORITY_INTERACTIVE,
        )
        response = await self.call(self._stub.EmbedTexts, request, limit_seconds)
        return [item.vector if item.HasField("vector") else None for item in response.embeddings]

    async def embed_texts(
        self,
        texts: Sequence[str],
        model: common_pb2.ModelRef,
        prompt: embedder_pb2.InputType.ValueType,
        limit_seconds: float,
    ) -> list[embedder_pb2.TextEmbedding]:
        """A float32 vector, or an error, for each text, in order."""
        request = embedder_pb2.EmbedTextsRequest(
            model=model, texts=texts, input_type=prompt, dtype=common_pb2.DTYPE_FLOAT32
        )
        response = await self.call(self._stub.EmbedTexts, request, limit_seconds)
        return list(response.embeddings)

    async def embed_documents(
        self,
        documents: list[document_pb2.Document],
        model: common_pb2.ModelRef,
        fingerprint: str,
        limit_seconds: float,
    ) -> list[embedder_pb2.DocumentEmbedding]:
        """Passages and vectors, or an error, for each document, in order."""
        request = embedder_pb2.EmbedDocumentsRequest(
            model=model,
            documents=documents,
            expected_fingerprint=fingerprint,
            dtype=common_pb2.DTYPE_FLOAT16,
        )
        response = await self.call(self._stub.EmbedDocuments, request, limit_seconds)
        return list(response.documents)

    async def models(self, limit_seconds: float) -> list[common_pb2.ModelInfo]:
        """Those that can be asked for, the default first."""
        request = embedder_pb2.EmbedderServiceListModelsRequest()
        response = await self.call(self._stub.ListModels, request, limit_seconds)
        return [model for model in response.models if model.state not in _NOT_SERVED]


class Retriever(Tier):
    """Client of the retriever. `rpc` are its methods, for `call`."""

    _READS = ("GetCollection", "ListCollections", "CheckDocuments", "GetDocument", "ListDocuments")
    _SEARCHES = ("SearchPassages", "ListShards")

    def __init__(self, address: str, max_message_bytes: int, tls: ClientTls | None) -> None:
        service = "sirdar.v1.RetrieverService"
        channel = open_channel(
            address,
            # Not the writes: one that was cut off may have been committed.
            retry_methods=[f"{service}/{name}" for name in (*self._READS, *self._SEARCHES)],
            max_message_bytes=max_message_bytes,
            tls=tls,
        )
        super().__init__("retriever", address, channel)
        self.rpc: retriever_pb2_grpc.RetrieverServiceAsyncStub = (
            retriever_pb2_grpc.RetrieverServiceStub(channel)  # type: ignore[assignment]
        )

    async def search(
        self, request: retriever_pb2.SearchPassagesRequest, limit_seconds: float
    ) -> retriever_pb2.SearchPassagesResponse:
        return await self.call(self.rpc.SearchPassages, request, limit_seconds)


class Reranker(Tier):
    """Client of the reranker. `rpc` are its methods, for `call`."""

    def __init__(self, address: str, max_message_bytes: int, tls: ClientTls | None) -> None:
        channel = open_channel(
            address,
            # Scoring has no effects.
            retry_methods=["sirdar.v1.RerankerService"],
            max_message_bytes=max_message_bytes,
            tls=tls,
        )
        super().__init__("reranker", address, channel)
        self.rpc: reranker_pb2_grpc.RerankerServiceAsyncStub = (
            reranker_pb2_grpc.RerankerServiceStub(channel)  # type: ignore[assignment]
        )

    async def logits(self, query: str, passages: Sequence[str], limit_seconds: float) -> Logits:
        """Of passages, the most promising first: the last are dropped when time is short.

        Raises Unavailable when it refuses all, DeadlineExceeded when it had time for fewer
        than two: they have no order.
        """
        request = reranker_pb2.RerankPassagesRequest(
            # However many passages: a user waits for the search.
            options=reranker_pb2.RerankOptions(
                query=query, raw_scores=True, priority=common_pb2.PRIORITY_INTERACTIVE
            ),
            passages=[
                reranker_pb2.RerankPassage(id=str(place), text=text)
                for place, text in enumerate(passages)
            ],
        )
        response = await self.call(self.rpc.RerankPassages, request, limit_seconds)
        known = {
            int(item.id): item.score
            for item in response.scores
            if item.HasField("score") and math.isfinite(item.score)
        }
        dropped = frozenset(int(item.id) for item in response.scores if item.HasField("dropped"))
        if dropped and len(known) < 2:
            raise DeadlineExceeded(
                f"the reranker had time for {len(known)} of {len(passages)} candidates",
                reason="RERANKER_TIMEOUT",
            )
        if not known:
            raise Unavailable(
                f"the reranker scored none of {len(passages)} passages", reason="NOTHING_SCORED"
            )
        return Logits(known, dropped)

    async def models(self, limit_seconds: float) -> list[common_pb2.ModelInfo]:
        request = reranker_pb2.RerankerServiceListModelsRequest()
        return list((await self.call(self.rpc.ListModels, request, limit_seconds)).models)
