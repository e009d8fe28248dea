"""The calls of SearchService as values: what to send and how to read the answer.

The sync and the asyncio client differ only in how they run them.
"""

from collections.abc import Iterator, Sequence

from sirdar.client import decode, encode
from sirdar.client.call import Call, Page
from sirdar.client.collection import Model
from sirdar.client.collection_calls import CollectionCalls
from sirdar.client.documents import (
    DeleteOutcome,
    DocumentUpdate,
    FilterDeletion,
    StoredDocument,
    UpdateOutcome,
)
from sirdar.client.encode_search import search_request
from sirdar.client.options import SearchOptions
from sirdar.client.results import SearchResults
from sirdar.client.search_session import SearchSession
from sirdar.client.searches import Search, SearchOutcome, SimilarityMethod, SimilarityOutcome
from sirdar.v1 import filter_pb2, query_pb2, search_pb2

DELETE_BATCH = 1_000
"""How many ids the contract allows in one DeleteDocuments."""
UPDATE_BATCH = 1_000
"""How many updates the contract allows in one UpdateDocuments."""

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


class Calls:
    """Makes the calls of one namespace. Each raises InvalidArgument for what cannot be sent."""

    def __init__(self, namespace: str) -> None:
        self._namespace = encode.text("namespace", namespace)
        self.collections = CollectionCalls(self._namespace)

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
