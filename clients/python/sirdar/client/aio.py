"""The client for asyncio."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self, Unpack

from sirdar.client.aio_connection import Connection, pages
from sirdar.client.aio_stream import StreamRun
from sirdar.client.calls import Calls
from sirdar.client.channel import MAX_MESSAGE_BYTES, Tls
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
from sirdar.client.health import Health
from sirdar.client.index_session import IndexSession
from sirdar.client.options import CollectionChanges, CollectionOptions, SearchOptions
from sirdar.client.results import SearchResults
from sirdar.client.searches import Search, SearchOutcome, SimilarityMethod, SimilarityOutcome
from sirdar.v1.filter_pb2 import Filter


class AsyncClient:
    """Talks to a gateway from one event loop. Use it with `async with`.

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
        self._max_message_bytes = max_message_bytes
        self._connection = Connection(address, timeout_seconds, tls, max_message_bytes)
        self._run = self._connection.run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and the calls in flight."""
        await self._connection.close()

    async def search(
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
        return await self._run(self._calls.search(collection, query, options), timeout_seconds)

    async def search_batch(
        self, searches: Sequence[Search], *, timeout_seconds: float | None = None
    ) -> list[SearchOutcome]:
        """1 to 100 searches at once; one outcome each, in order. One that fails fails alone."""
        return await self._run(self._calls.search_batch(searches), timeout_seconds)

    def search_stream(
        self,
        searches: Iterable[Search] | AsyncIterable[Search],
        *,
        ordered: bool = False,
        in_flight: int | None = None,
        stall_seconds: float = 120.0,
        patience_seconds: float = 30.0,
    ) -> AsyncIterator[SearchOutcome]:
        """Any number of searches, each answered when it is ready or, `ordered`, in their order.

        At most `in_flight` are under way at once (default: the server's limit).
        The stream is resumed after a break; the fault is raised when there was
        no answer for `patience_seconds` of trying. A server that is connected
        but answers nothing for `stall_seconds` raises DeadlineExceeded.
        """
        session = self._calls.search_session(ordered, in_flight, patience_seconds)
        method = self._connection.stream_stub().StreamSearch
        return StreamRun(method, session, searches, stall_seconds).outcomes()

    async def compute_similarity(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        method: SimilarityMethod | str = SimilarityMethod.EMBEDDINGS,
        model: Model | None = None,
        timeout_seconds: float | None = None,
    ) -> list[SimilarityOutcome]:
        """How much 1 to 1,000 pairs of texts mean the same; one outcome each, in order."""
        call = self._calls.compute_similarity(pairs, method, model)
        return await self._run(call, timeout_seconds)

    def index(
        self,
        collection: str,
        documents: Iterable[Document | ConditionalDocument]
        | AsyncIterable[Document | ConditionalDocument],
        *,
        stall_seconds: float = 120.0,
        patience_seconds: float = 30.0,
    ) -> AsyncIterator[IndexOutcome]:
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
        method = self._connection.stream_stub().IndexDocuments
        return StreamRun(method, session, documents, stall_seconds).outcomes()

    async def get_document(
        self, collection: str, document_id: str, *, timeout_seconds: float | None = None
    ) -> StoredDocument:
        """Raises NotFound if there is no such document."""
        return await self._run(self._calls.get_document(collection, document_id), timeout_seconds)

    def list_documents(
        self, collection: str, *, page_size: int = 100, timeout_seconds: float | None = None
    ) -> AsyncIterator[StoredDocument]:
        """All documents in the order of their ids, a page a call."""
        return pages(
            lambda token: self._run(
                self._calls.list_documents(collection, page_size, token), timeout_seconds
            )
        )

    async def delete_documents(
        self, collection: str, document_ids: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[DeleteOutcome]:
        """One outcome an id, in order. To delete what is not there is no error."""
        outcomes: list[DeleteOutcome] = []
        for call in self._calls.delete_documents(collection, document_ids):
            answered = await self._run(call, timeout_seconds)
            outcomes += answered
        return outcomes

    async def update_documents(
        self,
        collection: str,
        updates: Sequence[DocumentUpdate],
        *,
        timeout_seconds: float | None = None,
    ) -> list[UpdateOutcome]:
        """Changes metadata without embedding; one outcome an update, in order."""
        outcomes: list[UpdateOutcome] = []
        for call in self._calls.update_documents(collection, updates):
            answered = await self._run(call, timeout_seconds)
            outcomes += answered
        return outcomes

    async def delete_by_filter(
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
        return await self._run(call, timeout_seconds)

    async def create_collection(
        self,
        name: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[CollectionOptions],
    ) -> Collection:
        """Raises AlreadyExists if the name is taken."""
        return await self._run(self._calls.collections.create(name, options), timeout_seconds)

    async def get_collection(
        self, name: str, *, timeout_seconds: float | None = None
    ) -> Collection:
        """Raises NotFound if there is no such collection."""
        return await self._run(self._calls.collections.get(name), timeout_seconds)

    def list_collections(
        self, *, page_size: int = 100, timeout_seconds: float | None = None
    ) -> AsyncIterator[Collection]:
        """All collections of the namespace, a page a call."""
        return pages(
            lambda token: self._run(self._calls.collections.list(page_size, token), timeout_seconds)
        )

    async def update_collection(
        self,
        name: str,
        *,
        timeout_seconds: float | None = None,
        **changes: Unpack[CollectionChanges],
    ) -> Collection:
        """Replaces what is given and leaves the rest."""
        return await self._run(self._calls.collections.update(name, changes), timeout_seconds)

    async def delete_collection(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Deletes the collection and all that is in it."""
        await self._run(self._calls.collections.delete(name), timeout_seconds)

    async def health(self, service: str = "", *, timeout_seconds: float | None = None) -> Health:
        """What the server says about itself or one service. Raises Unavailable if it is down."""
        return await self._connection.health(service, timeout_seconds)
