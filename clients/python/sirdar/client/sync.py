"""The client for code that blocks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sirdar.client.call import Call, Page
from sirdar.client.calls import Calls
from sirdar.client.channel import MAX_MESSAGE_BYTES, Tls, open_channel
from sirdar.client.collection import Collection, Model
from sirdar.client.documents import (
    ConditionalDocument,
    DeleteOutcome,
    Document,
    DocumentUpdate,
    FilterDeletion,
    IndexOutcome,
    StoredDocument,
    UpdateOutcome,
)
from sirdar.client.health import Health, health_of
from sirdar.client.index_session import IndexSession
from sirdar.client.options import CollectionChanges, CollectionOptions, SearchOptions
from sirdar.client.results import SearchResults
from sirdar.client.searches import Search, SearchOutcome, SimilarityMethod, SimilarityOutcome
from sirdar.client.sync_stream import StreamRun
from sirdar.errors import FailedPrecondition, from_rpc_error
from sirdar.v1.filter_pb2 import Filter
from sirdar.v1.search_pb2_grpc import SearchServiceStub

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
T = TypeVar("T")


class Client:
    """Talks to a gateway; may be shared by threads. Use it as a context manager.

    `timeout_seconds` is the time that a call may take, unless the call says
    otherwise. Calls that may safely run twice are retried while the server is
    unavailable. Every method raises errors of `sirdar.errors`.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:7700",
        *,
        namespace: str = "",
        timeout_seconds: float = 30.0,
        tls: Tls | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._calls = Calls(namespace)
        self._timeout_seconds = timeout_seconds
        self._max_message_bytes = max_message_bytes
        self._channel = open_channel(address, tls, max_message_bytes)
        self._stub = SearchServiceStub(self._channel)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and the calls in flight."""
        self._closed = True
        self._channel.close()

    def search(
        self,
        collection: str | Sequence[str],
        query: str = "",
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """The documents that mean what the query means, best first.

        Several collections are searched together. `like` in the options takes the
        place of the query.
        """
        return self._run(self._calls.search(collection, query, options), timeout_seconds)

    def search_batch(
        self, searches: Sequence[Search], *, timeout_seconds: float | None = None
    ) -> list[SearchOutcome]:
        """1 to 100 searches at once; one outcome each, in order. One that fails fails alone."""
        return self._run(self._calls.search_batch(searches), timeout_seconds)

    def search_stream(
        self,
        searches: Iterable[Search],
        *,
        ordered: bool = False,
        in_flight: int | None = None,
        stall_seconds: float = 120.0,
        patience_seconds: float = 30.0,
    ) -> Iterator[SearchOutcome]:
        """Any number of searches, each answered when it is ready or, `ordered`, in their order.

        At most `in_flight` are under way at once (default: the server's limit).
        The stream is resumed after a break; the fault is raised when there was
        no answer for `patience_seconds` of trying. A server that is connected
        but answers nothing for `stall_seconds` raises DeadlineExceeded.
        """
        session = self._calls.search_session(ordered, in_flight, patience_seconds)
        self._check_open()
        return StreamRun(self._stub.StreamSearch, session, searches, stall_seconds).outcomes()

    def compute_similarity(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        method: SimilarityMethod | str = SimilarityMethod.EMBEDDINGS,
        model: Model | None = None,
        timeout_seconds: float | None = None,
    ) -> list[SimilarityOutcome]:
        """How much 1 to 1,000 pairs of texts mean the same; one outcome each, in order."""
        return self._run(self._calls.compute_similarity(pairs, method, model), timeout_seconds)

    def index(
        self,
        collection: str,
        documents: Iterable[Document | ConditionalDocument],
        *,
        stall_seconds: float = 120.0,
        patience_seconds: float = 30.0,
    ) -> Iterator[IndexOutcome]:
        """Indexes documents as the outcomes are read: one for each, in order.

        At most 1,024 documents or 16 MiB are under way. A document that is
        refused, by the server or before it, does not end the stream. The
        stream is resumed after a break; the fault is raised when there was no
        answer for `patience_seconds` of trying. A server that is connected but
        answers nothing for `stall_seconds` raises DeadlineExceeded.
        """
        session = IndexSession(
            self._calls.index_target(collection),
            patience_seconds=patience_seconds,
            max_message_bytes=self._max_message_bytes,
        )
        self._check_open()
        return StreamRun(self._stub.IndexDocuments, session, documents, stall_seconds).outcomes()

    def get_document(
        self, collection: str, document_id: str, *, timeout_seconds: float | None = None
    ) -> StoredDocument:
        """Raises NotFound if there is no such document."""
        return self._run(self._calls.get_document(collection, document_id), timeout_seconds)

    def list_documents(
        self, collection: str, *, page_size: int = 100, timeout_seconds: float | None = None
    ) -> Iterator[StoredDocument]:
        """All documents in the order of their ids, a page a call."""
        return self._pages(
            lambda token: self._run(
                self._calls.list_documents(collection, page_size, token), timeout_seconds
            )
        )

    def delete_documents(
        self, collection: str, document_ids: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[DeleteOutcome]:
        """One outcome an id, in order. To delete what is not there is no error."""
        outcomes: list[DeleteOutcome] = []
        for call in self._calls.delete_documents(collection, document_ids):
            answered = self._run(call, timeout_seconds)
            outcomes += answered
        return outcomes

    def update_documents(
        self,
        collection: str,
        updates: Sequence[DocumentUpdate],
        *,
        timeout_seconds: float | None = None,
    ) -> list[UpdateOutcome]:
        """Changes metadata without embedding; one outcome an update, in order."""
        outcomes: list[UpdateOutcome] = []
        for call in self._calls.update_documents(collection, updates):
            answered = self._run(call, timeout_seconds)
            outcomes += answered
        return outcomes

    def delete_by_filter(
        self,
        collection: str,
        filter: Filter | str,  # noqa: A002 - as in a search
        *,
        count_only: bool = False,
        timeout_seconds: float | None = None,
    ) -> FilterDeletion:
        """Deletes every document that meets the filter, or only counts them.

        It is done in steps: after an error some may be deleted, and calling
        again goes on.
        """
        call = self._calls.delete_by_filter(collection, filter, count_only=count_only)
        return self._run(call, timeout_seconds)

    def create_collection(
        self,
        name: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[CollectionOptions],
    ) -> Collection:
        """Raises AlreadyExists if the name is taken."""
        return self._run(self._calls.collections.create(name, options), timeout_seconds)

    def get_collection(self, name: str, *, timeout_seconds: float | None = None) -> Collection:
        """Raises NotFound if there is no such collection."""
        return self._run(self._calls.collections.get(name), timeout_seconds)

    def list_collections(
        self, *, page_size: int = 100, timeout_seconds: float | None = None
    ) -> Iterator[Collection]:
        """All collections of the namespace, a page a call."""
        return self._pages(
            lambda token: self._run(self._calls.collections.list(page_size, token), timeout_seconds)
        )

    def update_collection(
        self,
        name: str,
        *,
        timeout_seconds: float | None = None,
        **changes: Unpack[CollectionChanges],
    ) -> Collection:
        """Replaces what is given and leaves the rest."""
        return self._run(self._calls.collections.update(name, changes), timeout_seconds)

    def delete_collection(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Deletes the collection and all that is in it."""
        self._run(self._calls.collections.delete(name), timeout_seconds)

    def health(self, service: str = "", *, timeout_seconds: float | None = None) -> Health:
        """What the server says about itself or one service. Raises Unavailable if it is down."""
        self._check_open()
        check = health_pb2_grpc.HealthStub(self._channel).Check
        try:
            return health_of(
                check(
                    health_pb2.HealthCheckRequest(service=service),
                    timeout=self._seconds(timeout_seconds),
                )
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def _run(self, call: Call[RequestT, AnswerT, T], timeout_seconds: float | None) -> T:
        self._check_open()
        try:
            answer = call.method(self._stub)(call.request, timeout=self._seconds(timeout_seconds))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return call.read(answer)

    def _seconds(self, given: float | None) -> float:
        return self._timeout_seconds if given is None else given

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("the client is closed; open a new one")

    def _pages(self, page: Callable[[str], Page[T]]) -> Iterator[T]:
        token = ""
        while True:
            part = page(token)
            yield from part.items
            if not part.next_token:
                return
            token = part.next_token
