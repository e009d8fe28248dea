"""The embedder over gRPC: checks, calls, translates."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from services.embedder.embedding import Embedder, InputType, SourceDocument
from services.embedder.streams import answer_in_order
from services.inference.batcher import Priority
from services.runtime.deadline import deadline
from services.runtime.drain import Drain
from sirdar.errors import InvalidArgument, SirdarError, to_status
from sirdar.v1 import common_pb2, embedder_pb2, embedder_pb2_grpc

_DTYPES = {
    common_pb2.DTYPE_UNSPECIFIED: (common_pb2.DTYPE_FLOAT32, "<f4"),
    common_pb2.DTYPE_FLOAT32: (common_pb2.DTYPE_FLOAT32, "<f4"),
    common_pb2.DTYPE_FLOAT16: (common_pb2.DTYPE_FLOAT16, "<f2"),
}
_INPUT_TYPES = {
    embedder_pb2.INPUT_TYPE_UNSPECIFIED: InputType.UNSPECIFIED,
    embedder_pb2.INPUT_TYPE_QUERY: InputType.QUERY,
    embedder_pb2.INPUT_TYPE_DOCUMENT: InputType.DOCUMENT,
}
# A call with more texts than this does not go in front of others' queries.
_INTERACTIVE_TEXTS = 64
# Another replica, or this one restarted, is there about then.
_RETRY_DELAY = timedelta(milliseconds=200)

Context = Any
MessageT = TypeVar("MessageT")
EventT = TypeVar("EventT")


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """One model behind EmbedderService."""

    def __init__(self, embedder: Embedder, drain: Drain, stream_requests: int) -> None:
        """`stream_requests`: how many requests of a stream are worked on at once."""
        self._embedder = embedder
        self._drain = drain
        self._stream_requests = stream_requests
        model = embedder.model
        self._space = common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name=model.source.name, revision=model.source.revision),
            dimensions=model.description.dimensions,
            fingerprint=model.fingerprint,
        )

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Context
    ) -> embedder_pb2.EmbedTextsResponse:
        few = len(request.texts) <= _INTERACTIVE_TEXTS
        return await self._texts(request, Priority.INTERACTIVE if few else Priority.BULK)

    async def StreamEmbedTexts(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[embedder_pb2.StreamEmbedTextsResponse]:
        async def answer(
            message: embedder_pb2.StreamEmbedTextsRequest,
        ) -> embedder_pb2.EmbedTextsResponse:
            return await self._texts(message.request, Priority.BULK)

        event = embedder_pb2.StreamEmbedTextsResponse
        async for response in self._stream(request_iterator, answer, event):
            yield response

    async def EmbedDocuments(
        self, request: embedder_pb2.EmbedDocumentsRequest, context: Context
    ) -> embedder_pb2.EmbedDocumentsResponse:
        return await self._documents(request)

    async def StreamEmbedDocuments(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[embedder_pb2.StreamEmbedDocumentsResponse]:
        async def answer(
            message: embedder_pb2.StreamEmbedDocumentsRequest,
        ) -> embedder_pb2.EmbedDocumentsResponse:
            return await self._documents(message.request)

        event = embedder_pb2.StreamEmbedDocumentsResponse
        async for response in self._stream(request_iterator, answer, event):
            yield response

    async def ListModels(
        self, request: embedder_pb2.EmbedderServiceListModelsRequest, context: Context
    ) -> embedder_pb2.EmbedderServiceListModelsResponse:
        model = self._embedder.model
        info = common_pb2.ModelInfo(
            model=self._space.model,
            engine=model.engine.info.name,
            precision=model.engine.info.precision,
            device=model.engine.info.device,
            max_tokens=model.description.max_tokens,
            space=self._space,
            prompts=model.description.prompt_names,
            is_default=True,
        )
        return embedder_pb2.EmbedderServiceListModelsResponse(models=[info])

    async def _texts(
        self, request: embedder_pb2.EmbedTextsRequest, priority: Priority
    ) -> embedder_pb2.EmbedTextsResponse:
        self._check_model(request)
        input_type = _INPUT_TYPES.get(request.input_type)
        if input_type is None:
            raise InvalidArgument.field("input_type", "is unknown; use QUERY or DOCUMENT")
        encode = _VectorEncoder(request.dtype)
        outcomes = await self._embedder.embed_texts(request.texts, input_type, priority, deadline())
        response = embedder_pb2.EmbedTextsResponse(space=self._space)
        for outcome in outcomes:
            if isinstance(outcome, SirdarError):
                response.embeddings.add(error=to_status(outcome))
            else:
                response.embeddings.add(
                    vector=encode(outcome.vector),
                    tokens=outcome.tokens,
                    truncated=outcome.truncated,
                )
        return response

    async def _documents(
        self, request: embedder_pb2.EmbedDocumentsRequest
    ) -> embedder_pb2.EmbedDocumentsResponse:
        self._check_model(request)
        encode = _VectorEncoder(request.dtype)
        documents = [SourceDocument(d.id, d.title, d.text) for d in request.documents]
        outcomes = await self._embedder.embed_documents(documents, deadline())
        response = embedder_pb2.EmbedDocumentsResponse(space=self._space)
        for document, outcome in zip(documents, outcomes, strict=True):
            if isinstance(outcome, SirdarError):
                response.documents.add(document_id=document.id, error=to_status(outcome))
                continue
            passages = response.documents.add(document_id=document.id).embedded.passages
            for passage, vector in zip(outcome.passages, outcome.vectors, strict=True):
                passages.add(
                    span=common_pb2.Span(start=passage.start, end=passage.end),
                    vector=encode(vector),
                    tokens=passage.item.tokens,
                )
        return response

    def _check_model(
        self, request: embedder_pb2.EmbedTextsRequest | embedder_pb2.EmbedDocumentsRequest
    ) -> None:
        self._embedder.check_model(
            request.model.name, request.model.revision, request.expected_fingerprint
        )

    async def _stream(
        self,
        requests: Any,
        answer: Callable[[Any], Awaitable[MessageT]],
        event: Callable[..., EventT],
    ) -> AsyncIterator[EventT]:
        async def answer_or_error(message: Any) -> EventT:
            try:
                return event(response=await answer(message))
            except SirdarError as error:
                return event(error=to_status(error))

        live = self._drain.requests(requests)
        async for response in answer_in_order(live, answer_or_error, self._stream_requests):
            yield response
        if self._drain.draining:
            delay = Duration()
            delay.FromTimedelta(_RETRY_DELAY)
            yield event(shutting_down=common_pb2.ShuttingDown(retry_delay=delay))


class _VectorEncoder:
    """Vectors as they travel, in the dtype that a request asks for."""

    def __init__(self, dtype: common_pb2.Dtype.ValueType) -> None:
        if dtype not in _DTYPES:
            raise InvalidArgument.field("dtype", "is unknown; use FLOAT32 or FLOAT16")
        self._dtype, self._numpy_dtype = _DTYPES[dtype]

    def __call__(self, vector: NDArray[np.float32]) -> common_pb2.Vector:
        return common_pb2.Vector(
            data=vector.astype(self._numpy_dtype, copy=False).tobytes(),
            dtype=self._dtype,
            dimensions=len(vector),
        )
