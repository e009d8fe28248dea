"""IndexDocuments: streams of documents, as many at once as the server is set to take."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from gateway import validation as check
from gateway.backends import Embedder, Retriever, call_for
from gateway.batch import PendingItem
from gateway.catalog import Catalog, CollectionEntry
from gateway.indexing import IndexInput, IndexStream
from gateway.settings import GatewaySettings
from gateway.writing import BatchWriter, Pushback
from services.runtime.drain import Drain
from sirdar.errors import InvalidArgument, ResourceExhausted, SirdarError, to_status
from sirdar.v1 import common_pb2, search_pb2


class IndexStreams:
    def __init__(
        self,
        settings: GatewaySettings,
        drain: Drain,
        catalog: Catalog,
        embedder: Embedder,
        retriever: Retriever,
    ) -> None:
        self._settings = settings
        self._drain = drain
        self._catalog = catalog
        self._embedder = embedder
        self._retriever = retriever
        self._open = 0

    async def serve(
        self, request_iterator: Any
    ) -> AsyncIterator[search_pb2.IndexDocumentsResponse]:
        """Raises the errors of SearchService.IndexDocuments."""
        if self._open >= self._settings.max_index_streams:
            raise ResourceExhausted(
                f"{self._open} index streams are open already; retry when one has ended",
                retry_after=timedelta(seconds=1),
            )
        self._open += 1
        try:
            requests = self._drain.requests(request_iterator)
            first = await anext(requests, None)
            if first is not None:
                target = await self._target(first)
                writer = BatchWriter(self._settings, target, self._embedder, self._retriever)
                stream = IndexStream(self._settings, writer)
                async for event in stream.outcomes(self._items(requests)):
                    yield _index_response(event)
        finally:
            self._open -= 1
        if self._drain.draining:
            # Another replica is up already, or this one's successor soon.
            stop = common_pb2.ShuttingDown()
            stop.retry_delay.FromTimedelta(timedelta(milliseconds=200))
            yield search_pb2.IndexDocumentsResponse(shutting_down=stop)

    async def _target(self, first: search_pb2.IndexDocumentsRequest) -> CollectionEntry:
        if not first.HasField("target"):
            raise InvalidArgument.field("target", "must be the stream's first message")
        name = check.require_collection(first.target.collection, "target.collection")
        namespace = check.namespace_of(first.target.namespace)
        call_for(namespace)
        # A stream may be long: it does not start from what was remembered.
        self._catalog.forget(namespace, name)
        return await self._catalog.get(namespace, name)

    async def _items(
        self, requests: AsyncIterator[search_pb2.IndexDocumentsRequest]
    ) -> AsyncIterator[IndexInput]:
        async for request in requests:
            item = request.item
            error: SirdarError | None = None
            try:
                if not request.HasField("item"):
                    raise InvalidArgument.field(
                        "item", "must be set in every message but the first"
                    )
                check.check_document(item.document, self._settings)
            except InvalidArgument as bad:
                error = bad
            if_version = item.if_version if item.HasField("if_version") else None
            yield IndexInput(item.document, if_version, error)


def _index_response(event: PendingItem | Pushback) -> search_pb2.IndexDocumentsResponse:
    if isinstance(event, PendingItem):
        return search_pb2.IndexDocumentsResponse(outcome=_index_outcome(event))
    slow = common_pb2.SlowDown(detail=event.detail)
    slow.retry_delay.FromTimedelta(event.retry_after)
    return search_pb2.IndexDocumentsResponse(slow_down=slow)


def _index_outcome(item: PendingItem) -> search_pb2.IndexOutcome:
    return search_pb2.IndexOutcome(
        index=item.index,
        document_id=item.document.id,
        receipt=item.receipt,
        error=to_status(item.error) if item.error is not None else None,
        duplicate=item.duplicate,
    )
