"""The embedder over gRPC: checks, calls, translates."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration

from services.embedder.answers import documents_answer, model_info, texts_answer
from services.embedder.documents import DocumentEmbedder
from services.embedder.models import Models
from services.embedder.requests import documents_call, model_source, texts_call
from services.embedder.streams import answer_in_order
from services.embedder.texts import TextEmbedder
from services.inference.work import Priority
from services.runtime.drain import Drain
from sirdar.errors import SirdarError, to_status
from sirdar.v1 import common_pb2, embedder_pb2, embedder_pb2_grpc

# Another replica, or this one restarted, is there about then.
_RETRY_DELAY = timedelta(milliseconds=200)

Context = Any
MessageT = TypeVar("MessageT")
EventT = TypeVar("EventT")


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Models behind EmbedderService."""

    def __init__(
        self,
        models: Models,
        texts: TextEmbedder,
        documents: DocumentEmbedder,
        drain: Drain,
        stream_requests: int,
    ) -> None:
        """`stream_requests`: how many requests of a stream are worked on at once."""
        self._models = models
        self._texts = texts
        self._documents = documents
        self._drain = drain
        self._stream_requests = stream_requests

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Context
    ) -> embedder_pb2.EmbedTextsResponse:
        return texts_answer(await self._texts.embed(texts_call(request)))

    async def StreamEmbedTexts(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[embedder_pb2.StreamEmbedTextsResponse]:
        async def answer(
            message: embedder_pb2.StreamEmbedTextsRequest,
        ) -> embedder_pb2.EmbedTextsResponse:
            call = texts_call(message.request, Priority.BULK)
            return texts_answer(await self._texts.embed(call))

        event = embedder_pb2.StreamEmbedTextsResponse
        async for response in self._stream(request_iterator, answer, event):
            yield response

    async def EmbedDocuments(
        self, request: embedder_pb2.EmbedDocumentsRequest, context: Context
    ) -> embedder_pb2.EmbedDocumentsResponse:
        return documents_answer(request, await self._documents.embed(documents_call(request)))

    async def StreamEmbedDocuments(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[embedder_pb2.StreamEmbedDocumentsResponse]:
        async def answer(
            message: embedder_pb2.StreamEmbedDocumentsRequest,
        ) -> embedder_pb2.EmbedDocumentsResponse:
            return await self.EmbedDocuments(message.request, context)

        event = embedder_pb2.StreamEmbedDocumentsResponse
        async for response in self._stream(request_iterator, answer, event):
            yield response

    async def ListModels(
        self, request: embedder_pb2.EmbedderServiceListModelsRequest, context: Context
    ) -> embedder_pb2.EmbedderServiceListModelsResponse:
        models = [
            model_info(entry, is_default=self._models.is_default(entry))
            for entry in self._models.entries
        ]
        return embedder_pb2.EmbedderServiceListModelsResponse(models=models)

    async def LoadModel(
        self, request: embedder_pb2.LoadModelRequest, context: Context
    ) -> embedder_pb2.LoadModelResponse:
        self._models.check_managed()
        entry = await self._models.load(model_source(request))
        info = model_info(entry, is_default=self._models.is_default(entry))
        return embedder_pb2.LoadModelResponse(model=info)

    async def UnloadModel(
        self, request: embedder_pb2.UnloadModelRequest, context: Context
    ) -> embedder_pb2.UnloadModelResponse:
        self._models.check_managed()
        await self._models.unload(model_source(request))
        return embedder_pb2.UnloadModelResponse()

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
