"""A SearchService in memory: the seam at which the client and the command line are tested.

It keeps the contract and can be told to misbehave: to refuse calls, to break
index streams or to say goodbye in the middle of them.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.server import TierServer, serve
from services.runtime.settings import ServerSettings, server_config
from sirdar.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    SirdarError,
    to_status,
)
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceServicer, add_SearchServiceServicer_to_server


class DoubleSettings(ServerSettings):
    model_config = server_config("double")


@dataclass(frozen=True)
class Ending:
    """How a stream ends: after `answers` outcomes, having taken `extra` more documents."""

    answers: int
    extra: int = 0
    # None: with ShuttingDown.
    error: SirdarError | None = None
    # Answer nothing any more, for ever.
    hang: bool = False


@dataclass
class Double:
    """What the service has and what it was told; read and written by the tests."""

    address: str = ""
    collections: dict[str, collection_pb2.Collection] = field(default_factory=dict)
    documents: dict[tuple[str, str], document_pb2.StoredDocument] = field(default_factory=dict)
    refusals: deque[SirdarError] = field(default_factory=deque)
    endings: deque[Ending] = field(default_factory=deque)
    calls: Counter[str] = field(default_factory=Counter)
    received: list[str] = field(default_factory=list)
    # Before how many of the documents of each index stream the client is told to slow down.
    slow_before: set[int] = field(default_factory=set)
    delay_seconds: float = 0.0
    requests: list[search_pb2.SearchRequest] = field(default_factory=list)
    deletions: list[search_pb2.DeleteByFilterRequest] = field(default_factory=list)
    stream_options: list[search_pb2.StreamSearchOptions] = field(default_factory=list)
    similarities: list[search_pb2.ComputeSimilarityRequest] = field(default_factory=list)
    answer: search_pb2.SearchResponse = field(default_factory=search_pb2.SearchResponse)

    def write(self, collection: str, item: search_pb2.IndexItem) -> document_pb2.WriteReceipt:
        document = item.document
        if document.text == "refuse me":
            raise InvalidArgument.field("document.text", "is refused")
        old = self.documents.get((collection, document.id))
        version = old.receipt.version if old else 0
        if item.HasField("if_version") and item.if_version != version:
            raise Aborted(f"{document.id} has version {version}, not {item.if_version}")
        receipt = document_pb2.WriteReceipt(version=version + 1, passages=1, written=Timestamp())
        self.documents[collection, document.id] = document_pb2.StoredDocument(
            document=document, receipt=receipt
        )
        return receipt


class DoubleServicer(SearchServiceServicer):
    # The generated base class knows only of methods that block.
    def __init__(self, double: Double) -> None:
        self._double = double

    def _called(self, method: str) -> None:
        self._double.calls[method] += 1
        if self._double.refusals:
            raise self._double.refusals.popleft()

    def _collection(self, name: str) -> collection_pb2.Collection:
        if name not in self._double.collections:
            raise NotFound(f"there is no collection {name!r}", reason="COLLECTION_NOT_FOUND")
        return self._double.collections[name]

    async def Search(self, request, context):  # type: ignore[no-untyped-def]
        self._called("Search")
        self._double.requests.append(request)
        await asyncio.sleep(self._double.delay_seconds)
        for name in request.collections or [request.collection]:
            self._collection(name)
        return self._double.answer

    async def IndexDocuments(self, request_iterator, context):  # type: ignore[no-untyped-def]
        self._called("IndexDocuments")
        double = self._double
        ending = double.endings.popleft() if double.endings else None
        first = await anext(aiter(request_iterator))
        collection = first.target.collection
        self._collection(collection)
        index = 0
        extra = 0
        async for request in request_iterator:
            double.received.append(request.item.document.id)
            if ending and index == ending.answers:
                if extra < ending.extra:
                    double.write(collection, request.item)
                    extra += 1
                    continue
                if ending.hang:
                    await asyncio.Event().wait()
                if ending.error is not None:
                    raise ending.error
                yield search_pb2.IndexDocumentsResponse(shutting_down=common_pb2.ShuttingDown())
                return
            if index in double.slow_before:
                slow = common_pb2.SlowDown(detail="full")
                slow.retry_delay.FromMilliseconds(20)
                yield search_pb2.IndexDocumentsResponse(slow_down=slow)
            outcome = search_pb2.IndexOutcome(index=index, document_id=request.item.document.id)
            try:
                outcome.receipt.CopyFrom(double.write(collection, request.item))
            except SirdarError as error:
                outcome.error.CopyFrom(to_status(error))
            yield search_pb2.IndexDocumentsResponse(outcome=outcome)
            index += 1

    async def UpdateDocuments(self, request, context):  # type: ignore[no-untyped-def]
        self._called("UpdateDocuments")
        response = search_pb2.UpdateDocumentsResponse()
        for update in request.updates:
            outcome = response.outcomes.add(document_id=update.document_id)
            stored = self._double.documents.get((request.collection, update.document_id))
            if stored is None:
                outcome.error.CopyFrom(to_status(NotFound(f"no {update.document_id}")))
                continue
            for key in update.remove:
                stored.document.metadata.pop(key, None)
            for key, value in update.set.items():
                stored.document.metadata[key].CopyFrom(value)
            if update.HasField("expires"):
                stored.document.expires.CopyFrom(update.expires)
            if update.never_expires:
                stored.document.ClearField("expires")
            stored.receipt.version += 1
            outcome.receipt.CopyFrom(stored.receipt)
        return response

    async def GetDocument(self, request, context):  # type: ignore[no-untyped-def]
        self._called("GetDocument")
        stored = self._double.documents.get((request.collection, request.document_id))
        if stored is None:
            raise NotFound(f"there is no document {request.document_id!r}")
        return search_pb2.GetDocumentResponse(document=stored)

    async def ListDocuments(self, request, context):  # type: ignore[no-untyped-def]
        self._called("ListDocuments")
        ids = sorted(key for name, key in self._double.documents if name == request.collection)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return search_pb2.ListDocumentsResponse(
            documents=[self._double.documents[request.collection, key] for key in ids[start:end]],
            next_page_token=str(end) if end < len(ids) else "",
        )

    async def DeleteDocuments(self, request, context):  # type: ignore[no-untyped-def]
        self._called("DeleteDocuments")
        return search_pb2.DeleteDocumentsResponse(
            outcomes=[
                document_pb2.DeleteOutcome(
                    document_id=key,
                    existed=self._double.documents.pop((request.collection, key), None) is not None,
                )
                for key in request.document_ids
            ]
        )

    async def DeleteByFilter(self, request, context):  # type: ignore[no-untyped-def]
        self._called("DeleteByFilter")
        self._double.deletions.append(request)
        self._collection(request.collection)
        return search_pb2.DeleteByFilterResponse(documents=7, consistency_tokens=["t"])

    async def CreateCollection(self, request, context):  # type: ignore[no-untyped-def]
        self._called("CreateCollection")
        name = request.collection.name
        if name in self._double.collections:
            raise AlreadyExists(f"the collection {name!r} exists")
        self._double.collections[name] = request.collection
        return search_pb2.CreateCollectionResponse(collection=request.collection)

    async def GetCollection(self, request, context):  # type: ignore[no-untyped-def]
        self._called("GetCollection")
        return search_pb2.GetCollectionResponse(collection=self._collection(request.name))

    async def ListCollections(self, request, context):  # type: ignore[no-untyped-def]
        self._called("ListCollections")
        return search_pb2.ListCollectionsResponse(collections=self._double.collections.values())

    async def UpdateCollection(self, request, context):  # type: ignore[no-untyped-def]
        self._called("UpdateCollection")
        collection = self._collection(request.collection.name)
        for path in request.update_mask.paths:
            if path == "description":
                collection.description = request.collection.description
            elif path == "schema":
                del collection.schema[:]
                collection.schema.extend(request.collection.schema)
            elif path == "rerank":
                collection.rerank.CopyFrom(request.collection.rerank)
            else:
                collection.labels.clear()
                collection.labels.update(request.collection.labels)
        return search_pb2.UpdateCollectionResponse(collection=collection)

    async def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, context: Any
    ) -> search_pb2.BatchSearchResponse:
        self._called("BatchSearch")
        return search_pb2.BatchSearchResponse(
            outcomes=[_outcome(place, search) for place, search in enumerate(request.searches)]
        )

    async def StreamSearch(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[search_pb2.StreamSearchResponse]:
        """Answers `answers` searches and ends as told; each with its query for a document."""
        self._called("StreamSearch")
        ending = self._double.endings.popleft() if self._double.endings else None
        answered = 0
        async for message in request_iterator:
            if message.HasField("options"):
                self._double.stream_options.append(message.options)
                continue
            if ending is not None and answered == ending.answers:
                if ending.hang:
                    await asyncio.Event().wait()
                if ending.error is not None:
                    raise ending.error
                stop = common_pb2.ShuttingDown()
                yield search_pb2.StreamSearchResponse(shutting_down=stop)
                return
            item = message.item
            if item.progressive:
                first = _outcome(item.id, item.search)
                first.preliminary = True
                yield search_pb2.StreamSearchResponse(outcome=first)
            yield search_pb2.StreamSearchResponse(outcome=_outcome(item.id, item.search))
            answered += 1

    async def ComputeSimilarity(
        self, request: search_pb2.ComputeSimilarityRequest, context: Any
    ) -> search_pb2.ComputeSimilarityResponse:
        self._called("ComputeSimilarity")
        self._double.similarities.append(request)
        response = search_pb2.ComputeSimilarityResponse()
        for pair in request.pairs:
            outcome = response.outcomes.add()
            if pair.first:
                outcome.similarity = 1.0 if pair.first == pair.second else 0.25
            else:
                outcome.error.CopyFrom(to_status(InvalidArgument("an empty text")))
        return response

    async def DeleteCollection(self, request, context):  # type: ignore[no-untyped-def]
        self._called("DeleteCollection")
        self._collection(request.name)
        del self._double.collections[request.name]
        return search_pb2.DeleteCollectionResponse()


def _outcome(number: int, search: search_pb2.SearchRequest) -> search_pb2.SearchOutcome:
    if search.query == "refuse me":
        refusal = to_status(InvalidArgument.field("query", "is refused"))
        return search_pb2.SearchOutcome(id=number, error=refusal)
    found = search_pb2.SearchResult(document_id=search.query)
    return search_pb2.SearchOutcome(id=number, response=search_pb2.SearchResponse(results=[found]))


@contextmanager
def running_double(**settings: Any) -> Iterator[Double]:
    """The service on a free port, in an event loop of its own; `settings` are its server's."""
    double = Double()
    ready = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    @asynccontextmanager
    async def wire(settings: DoubleSettings, server: TierServer) -> AsyncIterator[None]:
        server.register(
            add_SearchServiceServicer_to_server, DoubleServicer(double), "sirdar.v1.SearchService"
        )
        yield

    async def main() -> None:
        double_settings = DoubleSettings(**{"port": 0, "drain_grace_seconds": 0, **settings})
        async with serve("double", double_settings, wire) as server:
            double.address = f"127.0.0.1:{server.port}"
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield double
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
