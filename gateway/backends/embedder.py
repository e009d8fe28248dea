"""Client of the embedder."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.backends import sense
from gateway.backends.endpoint import Endpoint
from gateway.backends.gathering import Gathering
from gateway.backends.tier import Tier
from services.runtime.channel import ClientTls
from sirdar.errors import SirdarError, from_status
from sirdar.v1 import common_pb2, document_pb2, embedder_pb2, embedder_pb2_grpc

# An embedder that is older says nothing of a model's state.
_NOT_SERVED = {common_pb2.MODEL_STATE_LOADING, common_pb2.MODEL_STATE_UNLOADING}


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query in a space; the vector stays as it travels."""

    vector: common_pb2.Vector
    space: common_pb2.EmbeddingSpace


@dataclass(frozen=True, slots=True)
class _QuerySpace:
    """What queries that are embedded in one call have in common."""

    model: bytes
    """A ModelRef, serialized."""
    fingerprint: str


class Embedder(Tier):
    """Embedding has no effects: all of it may run twice."""

    def __init__(self, address: str, max_message_bytes: int, tls: ClientTls | None) -> None:
        endpoint = Endpoint("embedder", address, max_message_bytes, tls, watched=True)
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = (
            embedder_pb2_grpc.EmbedderServiceStub(endpoint.channel)  # type: ignore[assignment]
        )
        super().__init__(
            endpoint,
            {
                self._stub.EmbedTexts: sense.texts_embedded,
                self._stub.EmbedDocuments: sense.documents_embedded,
            },
        )
        self._queries = Gathering[_QuerySpace, EmbeddedQuery | SirdarError](self._embed_queries)

    async def embed_query(
        self, text: str, model: common_pb2.ModelRef, fingerprint: str, limit_seconds: float
    ) -> EmbeddedQuery:
        """Raises FailedPrecondition when the embedder serves another space."""
        space = _QuerySpace(model.SerializeToString(), fingerprint)
        found = await self._queries.ask(space, text, limit_seconds)
        if isinstance(found, SirdarError):
            raise found
        return found

    async def _embed_queries(
        self, space: _QuerySpace, texts: Sequence[str], limit_seconds: float
    ) -> list[EmbeddedQuery | SirdarError]:
        request = embedder_pb2.EmbedTextsRequest(
            model=common_pb2.ModelRef.FromString(space.model),
            texts=texts,
            input_type=embedder_pb2.INPUT_TYPE_QUERY,
            expected_fingerprint=space.fingerprint,
            # However many there are: somebody waits for each.
            priority=common_pb2.PRIORITY_INTERACTIVE,
        )
        response = await self.call(self._stub.EmbedTexts, request, limit_seconds)
        return [
            from_status(item.error)
            if item.HasField("error")
            else EmbeddedQuery(item.vector, response.space)
            for item in response.embeddings
        ]

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
        embeddings, _ = await self.embed_in_space(texts, model, prompt, limit_seconds)
        return embeddings

    async def embed_in_space(
        self,
        texts: Sequence[str],
        model: common_pb2.ModelRef,
        prompt: embedder_pb2.InputType.ValueType,
        limit_seconds: float,
    ) -> tuple[list[embedder_pb2.TextEmbedding], common_pb2.EmbeddingSpace]:
        """The same, and the space that they are in."""
        request = embedder_pb2.EmbedTextsRequest(
            model=model, texts=texts, input_type=prompt, dtype=common_pb2.DTYPE_FLOAT32
        )
        response = await self.call(self._stub.EmbedTexts, request, limit_seconds)
        return list(response.embeddings), response.space

    async def embed_documents(
        self,
        documents: list[document_pb2.Document],
        model: common_pb2.ModelRef,
        fingerprint: str,
        limit_seconds: float,
    ) -> list[embedder_pb2.DocumentEmbedding]:
        """Passages and vectors, or an error, for each document, in order.

        Called once: index streams have a patience of their own.
        """
        request = embedder_pb2.EmbedDocumentsRequest(
            model=model,
            documents=documents,
            expected_fingerprint=fingerprint,
            dtype=common_pb2.DTYPE_FLOAT16,
        )
        response = await self.call_once(self._stub.EmbedDocuments, request, limit_seconds)
        return list(response.documents)

    async def models(self, limit_seconds: float) -> list[common_pb2.ModelInfo]:
        """Those that can be asked for, the default first."""
        request = embedder_pb2.EmbedderServiceListModelsRequest()
        response = await self.call(self._stub.ListModels, request, limit_seconds)
        return [model for model in response.models if model.state not in _NOT_SERVED]
