"""The calls of SearchService as values: what to send and how to read the answer.

The sync and the asyncio client differ only in how they run them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from sirdar.client import decode, encode
from sirdar.client.collection import Collection, Model, Similarity
from sirdar.client.documents import (
    DeleteOutcome,
    DocumentUpdate,
    FilterDeletion,
    StoredDocument,
    UpdateOutcome,
)
from sirdar.client.encode_search import search_request
from sirdar.client.options import CollectionChanges, CollectionOptions, SearchOptions
from sirdar.client.results import SearchResults
from sirdar.client.search_session import SearchSession
from sirdar.client.searches import Search, SearchOutcome, SimilarityMethod, SimilarityOutcome
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, filter_pb2, query_pb2, search_pb2
from sirdar.v1.search_pb2_grpc import SearchServiceStub

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
T = TypeVar("T")

DELETE_BATCH = 1_000
"""How many ids the contract allows in one DeleteDocuments."""
UPDATE_BATCH = 1_000
"""How many updates the contract allows in one UpdateDocuments."""

_SIMILARITIES = {
    Similarity.COSINE: collection_pb2.SIMILARITY_COSINE,
    Similarity.DOT: collection_pb2.SIMILARITY_DOT,
}


@dataclass(frozen=True, slots=True)
class Call(Generic[RequestT, AnswerT, T]):
    """One unary call: its method on a stub, its request, and the reader of its answer."""

    # Quoted: generic in the stubs, not at run time.
    method: "Callable[[SearchServiceStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]"
    request: RequestT
    read: Callable[[AnswerT], T]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; an empty `next_token` says that it was the last."""

    items: tuple[T, ...]
    next_token: str


SearchCall = Call[search_pb2.SearchRequest, search_pb2.SearchResponse, SearchResults]
SearchBatchCall = Call[
    search_pb2.BatchSearchRequest, search_pb2.BatchSearchResponse, list[SearchOutcome]
]
SimilarityCall = Call[
    search_pb2.ComputeSimilarityRequest,
    search_pb2.ComputeSimilarityResponse,
    list[SimilarityOutcome],
]
GetDocumentCall = Call[
    search_pb2.GetDocumentRequest, search_pb2.GetDocumentResponse, StoredDocument
]
ListDocumentsCall = Call[
    search_pb2.ListDocumentsRequest, search_pb2.ListDocumentsResponse, Page[StoredDocument]
]
DeleteDocumentsCall = Call[
    search_pb2.DeleteDocumentsRequest, search_pb2.DeleteDocumentsResponse, list[DeleteOutcome]
]
UpdateDocumentsCall = Call[
    search_pb2.UpdateDocumentsRequest, search_pb2.UpdateDocumentsResponse, list[UpdateOutcome]
]
DeleteByFilterCall = Call[
    search_pb2.DeleteByFilterRequest, search_pb2.DeleteByFilterResponse, FilterDeletion
]
CreateCollectionCall = Call[
    search_pb2.CreateCollectionRequest, search_pb2.CreateCollectionResponse, Collection
]
GetCollectionCall = Call[
    search_pb2.GetCollectionRequest, search_pb2.GetCollectionResponse, Collection
]
ListCollectionsCall = Call[
    search_pb2.ListCollectionsRequest, search_pb2.ListCollectionsResponse, Page[Collection]
]
UpdateCollectionCall = Call[
    search_pb2.UpdateCollectionRequest, search_pb2.UpdateCollectionResponse, Collection
]
DeleteCollectionCall = Call[
    search_pb2.DeleteCollectionRequest, search_pb2.DeleteCollectionResponse, None
]


class Calls:
    """Makes the calls of one namespace. Each raises InvalidArgument for what cannot be sent."""

    def __init__(self, namespace: str) -> None:
        self._namespace = encode.text("namespace", namespace)

    def search(
        self, collection: str | Sequence[str], query: str, options: SearchOptions
    ) -> SearchCall:
        request = search_request(self._namespace, collection, query, options)
        return Call(lambda stub: stub.Search, request, decode.search_results)

    def search_batch(self, searches: Sequence[Search]) -> SearchBatchCall:
        request = search_pb2.BatchSearchRequest(
            searches=[self._search(search) for search in searches]
        )
        return Call(
            lambda stub: stub.BatchSearch,
            request,
            lambda answer: [decode.search_outcome(outcome) for outcome in answer.outcomes],
        )

    def search_session(
        self, ordered: bool, in_flight: int | None, patience_seconds: float
    ) -> SearchSession:
        options = search_pb2.StreamSearchOptions(ordered=ordered)
        if in_flight is not None:
            options.in_flight = encode.int32("in_flight", in_flight)
        return SearchSession(self._search_item, options, patience_seconds)

    def _search_item(self, search: Search) -> search_pb2.StreamSearchItem:
        item = search_pb2.StreamSearchItem(
            search=self._search(search), progressive=search.progressive
        )
        if search.timeout_seconds is not None:
            item.timeout.FromNanoseconds(round(search.timeout_seconds * 1e9))
        return item

    def _search(self, search: Search) -> search_pb2.SearchRequest:
        return self.search(search.collection, search.query, search.options).request

    def compute_similarity(
        self,
        pairs: Sequence[tuple[str, str]],
        method: SimilarityMethod | str,
        model: Model | None,
    ) -> SimilarityCall:
        request = search_pb2.ComputeSimilarityRequest(
            namespace=self._namespace,
            pairs=[
                query_pb2.TextPair(
                    first=encode.text(f"pairs[{at}][0]", first),
                    second=encode.text(f"pairs[{at}][1]", second),
                )
                for at, (first, second) in enumerate(pairs)
            ],
            method=encode.similarity_method("method", method),
        )
        if model is not None:
            request.model.name = encode.text("model.name", model.name)
            request.model.revision = encode.text("model.revision", model.revision)
        return Call(
            lambda stub: stub.ComputeSimilarity,
            request,
            lambda answer: [decode.similarity_outcome(outcome) for outcome in answer.outcomes],
        )

    def index_target(self, collection: str) -> search_pb2.IndexDocumentsRequest:
        """The first message of an index stream."""
        target = search_pb2.IndexTarget(
            namespace=self._namespace, collection=encode.text("collection", collection)
        )
        return search_pb2.IndexDocumentsRequest(target=target)

    def get_document(self, collection: str, document_id: str) -> GetDocumentCall:
        request = search_pb2.GetDocumentRequest(
            namespace=self._namespace,
            collection=encode.text("collection", collection),
            document_id=encode.text("document_id", document_id),
        )
        return Call(
            lambda stub: stub.GetDocument,
            request,
            lambda answer: decode.stored_document(answer.document),
        )

    def list_documents(self, collection: str, page_size: int, token: str) -> ListDocumentsCall:
        request = search_pb2.ListDocumentsRequest(
            namespace=self._namespace,
            collection=encode.text("collection", collection),
            page_size=encode.int32("page_size", page_size),
            page_token=token,
        )
        return Call(
            lambda stub: stub.ListDocuments,
            request,
            lambda answer: Page(
                tuple(decode.stored_document(item) for item in answer.documents),
                answer.next_page_token,
            ),
        )

    def delete_documents(
        self, collection: str, document_ids: Sequence[str]
    ) -> Iterator[DeleteDocumentsCall]:
        """As many calls as the ids need."""
        ids = encode.texts("document_ids", document_ids)
        for start in range(0, len(ids), DELETE_BATCH):
            request = search_pb2.DeleteDocumentsRequest(
                namespace=self._namespace,
                collection=encode.text("collection", collection),
                document_ids=ids[start : start + DELETE_BATCH],
            )
            yield Call(
                lambda stub: stub.DeleteDocuments,
                request,
                lambda answer: [decode.delete_outcome(item) for item in answer.outcomes],
            )

    def update_documents(
        self, collection: str, updates: Sequence[DocumentUpdate]
    ) -> Iterator[UpdateDocumentsCall]:
        """As many calls as the updates need; all are checked before the first."""
        messages = [
            encode.document_update(f"updates[{at}]", item) for at, item in enumerate(updates)
        ]
        for start in range(0, len(messages), UPDATE_BATCH):
            request = search_pb2.UpdateDocumentsRequest(
                namespace=self._namespace,
                collection=encode.text("collection", collection),
                updates=messages[start : start + UPDATE_BATCH],
            )
            yield Call(
                lambda stub: stub.UpdateDocuments,
                request,
                lambda answer: [decode.update_outcome(item) for item in answer.outcomes],
            )

    def delete_by_filter(
        self, collection: str, condition: filter_pb2.Filter | str, *, count_only: bool
    ) -> DeleteByFilterCall:
        request = search_pb2.DeleteByFilterRequest(
            namespace=self._namespace,
            collection=encode.text("collection", collection),
            filter=encode.filter_("filter", condition),
            count_only=encode.boolean("count_only", count_only),
        )
        return Call(lambda stub: stub.DeleteByFilter, request, decode.filter_deletion)

    def create_collection(self, name: str, options: CollectionOptions) -> CreateCollectionCall:
        collection = collection_pb2.Collection(
            namespace=self._namespace,
            name=encode.text("name", name),
            description=encode.text("description", options.get("description", "")),
            labels=encode.labels("labels", options.get("labels", {})),
            schema=encode.schema("schema", options.get("schema", {})),
        )
        if "lexical" in options:
            collection.lexical.enabled = encode.boolean("lexical", options["lexical"])
        if "language" in options:
            collection.lexical.language = encode.text("language", options["language"])
        if "rerank" in options:
            collection.rerank.CopyFrom(encode.rerank_settings("rerank", options["rerank"]))
        generation = collection.generation
        if "model" in options:
            model = options["model"]
            generation.space.model.name = encode.text("model.name", model.name)
            generation.space.model.revision = encode.text("model.revision", model.revision)
        if "similarity" in options:
            generation.similarity = _SIMILARITIES[options["similarity"]]
        generation.shards = encode.int32("shards", options.get("shards", 0))
        generation.index_kind = encode.text("index_kind", options.get("index_kind", ""))
        return Call(
            lambda stub: stub.CreateCollection,
            search_pb2.CreateCollectionRequest(collection=collection),
            lambda answer: decode.collection(answer.collection),
        )

    def get_collection(self, name: str) -> GetCollectionCall:
        return Call(
            lambda stub: stub.GetCollection,
            search_pb2.GetCollectionRequest(
                namespace=self._namespace, name=encode.text("name", name)
            ),
            lambda answer: decode.collection(answer.collection),
        )

    def list_collections(self, page_size: int, token: str) -> ListCollectionsCall:
        return Call(
            lambda stub: stub.ListCollections,
            search_pb2.ListCollectionsRequest(
                namespace=self._namespace,
                page_size=encode.int32("page_size", page_size),
                page_token=token,
            ),
            lambda answer: Page(
                tuple(decode.collection(item) for item in answer.collections),
                answer.next_page_token,
            ),
        )

    def update_collection(self, name: str, changes: CollectionChanges) -> UpdateCollectionCall:
        """Raises InvalidArgument if nothing is to be changed."""
        request = search_pb2.UpdateCollectionRequest()
        request.collection.namespace = self._namespace
        request.collection.name = encode.text("name", name)
        if "description" in changes:
            request.collection.description = encode.text("description", changes["description"])
        if "labels" in changes:
            request.collection.labels.update(encode.labels("labels", changes["labels"]))
        if "rerank" in changes:
            request.collection.rerank.CopyFrom(encode.rerank_settings("rerank", changes["rerank"]))
        if "schema" in changes:
            request.collection.schema.extend(encode.schema("schema", changes["schema"]))
        request.update_mask.paths.extend(changes)
        if not request.update_mask.paths:
            raise InvalidArgument("nothing to update: give a description, labels, rerank or schema")
        return Call(
            lambda stub: stub.UpdateCollection,
            request,
            lambda answer: decode.collection(answer.collection),
        )

    def delete_collection(self, name: str) -> DeleteCollectionCall:
        return Call(
            lambda stub: stub.DeleteCollection,
            search_pb2.DeleteCollectionRequest(
                namespace=self._namespace, name=encode.text("name", name)
            ),
            lambda answer: None,
        )
