"""What the retriever asks of a store of record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from services.cluster.membership import Membership, Replica
from services.retriever.store.group_commit import ShardKey
from services.retriever.store.records import (
    Change,
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Deletion,
    DocumentPage,
    DocumentPatch,
    DocumentState,
    DocumentWrite,
    EmbeddedDocument,
    Generation,
    Head,
    KeyedDocument,
    Passage,
    StoredDocument,
    TextChange,
    WriteResult,
)
from services.retriever.store.tombstones import DocumentKeys

OnCommit = Callable[[Sequence[Change]], None]
"""Called with committed changes, in the order of their sequences, before their writes are
acknowledged; from one thread, and must not raise."""


class Store(Protocol):
    """The truth. Everything that is acknowledged is here, durable; indexes are derived from it.

    Reads block and belong in worker threads. Writes answer with a future that
    is done when they are committed and applied; it fails with ResourceExhausted
    when the queue (OVERLOADED) or the disk (STORE_FULL) is full, and then
    nothing of the write was done.

    A document whose time is over is there for no read and no condition any
    more. It is deleted when it is swept; only where the clock jumps back before
    that is it there again.
    """

    def create_collection(self, definition: CollectionDefinition) -> Future[Collection]:
        """Fails with AlreadyExists."""
        ...

    def update_collection(
        self, namespace: str, name: str, update: CollectionUpdate
    ) -> Future[Collection]:
        """Fails with NotFound; with InvalidArgument where the schema would lose a field or
        change its type."""
        ...

    def delete_collection(self, namespace: str, name: str) -> Future[Generation]:
        """Its name is free at once, its rows go in the background. Fails with NotFound."""
        ...

    def collection(self, namespace: str, name: str) -> Collection:
        """Raises NotFound."""
        ...

    def collections(self, namespace: str, after: str, limit: int) -> list[Collection]:
        """The collections of a namespace with names beyond `after`, by name."""
        ...

    def all_collections(self) -> list[Collection]: ...

    def write_documents(
        self, generation: Generation, writes: Sequence[DocumentWrite]
    ) -> Future[list[WriteResult]]:
        """Writes in order; a write that fails (Aborted, FailedPrecondition) fails alone."""
        ...

    def update_documents(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> Future[list[WriteResult]]:
        """Changes metadata in order; a patch that fails (NotFound, Aborted, what its `change`
        raises) fails alone."""
        ...

    def has_expired(self) -> bool:
        """Whether there is a document whose time is over. Costs some microseconds."""
        ...

    def expired_keys(self, generation: Generation) -> list[int]:
        """The keys of the documents whose time is over, which are not swept yet."""
        ...

    def sweep(self, limit: int) -> Future[int]:
        """Deletes so many of the documents whose time is over; answers how many there were."""
        ...

    def purge_tombstones(self, kept_seconds: float, limit: int) -> Future[int]:
        """Removes so many of the tombstones of documents that were deleted longer ago; answers how
        many there were. Who has not read of those deletions is told by TombstonesPurged."""
        ...

    def delete_documents(
        self, generation: Generation, ids: Sequence[str], versions: Sequence[int] | None = None
    ) -> Future[list[Deletion]]:
        """With `versions`, one an id: a document of another version stays."""
        ...

    def document_states(self, generation: Generation, ids: Sequence[str]) -> list[DocumentState]:
        """Of the documents that are there, in no order."""
        ...

    def document(self, generation: Generation, document_id: str) -> StoredDocument:
        """Raises NotFound."""
        ...

    def embedded_document(self, generation: Generation, document_id: str) -> EmbeddedDocument:
        """The document and its passages as one write left them. Raises NotFound."""
        ...

    def documents(
        self, generation: Generation, after: str, limit: int, max_bytes: int
    ) -> DocumentPage:
        """Documents with ids beyond `after`, in the order of the ids' bytes.

        Ends early, after at least one, where their texts pass `max_bytes`.
        """
        ...

    def passages(self, passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
        """Those of the passages that are still there. Without text: `text`, `title` and
        `metadata` are empty."""
        ...

    def passages_of(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, Passage]:
        """Those of the passages that are still there and of this generation, with text."""
        ...

    def vectors(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, bytes]:
        """Of those of the passages that are still there: little-endian float16 components."""
        ...

    def committed_seqs(self, generation: Generation) -> list[int]:
        """The last committed sequence of each shard. Raises NotFound where the collection was
        deleted."""
        ...

    def heads(self) -> list[Head]:
        """Where all collections stand at one moment."""
        ...

    def opening(self) -> str:
        """Another whenever the store is opened for writing. Nothing is read from disk."""
        ...

    def changes(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[Change]:
        """The log of a shard beyond a sequence: one change a document, in their order.

        Raises TombstonesPurged, also on the way, where deletions beyond both
        `after_seq` and the `purged_seq` of the last `document_keys` are missing.
        """
        ...

    def document_keys(self, generation: Generation, shard: int) -> DocumentKeys:
        """What is there of a shard, for an index that was told of deletions too late."""
        ...

    def metadata(self, generation: Generation, shard: int) -> Iterator[tuple[int, bytes | None]]:
        """The key of each row of a shard, ascending, with its metadata; None: a tombstone."""
        ...

    def keyed_documents(self, generation: Generation, keys: Sequence[int]) -> list[KeyedDocument]:
        """Those of the documents that are there, in no order."""
        ...

    def texts(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[TextChange]:
        """The log of a shard beyond a sequence as its words: one change a document, in
        their order. Raises TombstonesPurged as `changes` does."""
        ...

    def identity(self) -> str:
        """Tells this store from every other."""
        ...

    def snapshots(self, generation: Generation) -> list[str]:
        """The names of the snapshots of its indexes that are known, in order."""
        ...

    def note_snapshot(
        self, generation: Generation, name: str, forgotten: Sequence[str]
    ) -> Future[None]:
        """From now on another snapshot is known, and these are not any more."""
        ...

    def close(self) -> None:
        """Commits what waits, then closes. Idempotent."""
        ...


class FollowedStore(Store, Protocol):
    """A store that other processes write."""

    def revision(self, *, certain: bool = False) -> int:
        """Another than at the last call of this thread where something may have been committed
        since. Costs microseconds, and is called all the time.

        What was committed a moment ago may be heard of late; with `certain` it is not. Raises
        Unavailable where the store is no longer the one that was opened.
        """
        ...

    def past(self) -> str:
        """What indexes over this store are good for: another after it was replaced by another
        store, or by a backup."""
        ...


class SharedStore(FollowedStore, Protocol):
    """A store that several retrievers write, each of them a member under its name."""

    def register(self, name: str, replication: int) -> Future[Membership]:
        """Makes this one a member unless it is; one that drains goes on to drain. Fails with
        FailedPrecondition where the others have agreed on another replication."""
        ...

    def membership(self) -> Membership:
        """As of the last `heads`; nothing is read."""
        ...

    def drain(self, name: str, *, force: bool) -> Future[Membership]:
        """Lets a member have no shards any more. Fails with NotFound, and with
        FailedPrecondition where fewer than are to have each shard would be left, unless forced,
        or none."""
        ...

    def undrain(self, name: str) -> Future[Membership]:
        """Lets a member have shards again. Fails with NotFound."""
        ...

    def remove(self, name: str, *, force: bool) -> Future[Membership]:
        """Fails with NotFound, and with FailedPrecondition where it has not drained, unless
        forced, or where none would be left."""
        ...

    def members(self) -> Membership:
        """As it is now."""
        ...

    def replicas(self) -> list[Replica]:
        """Of all collections that are there."""
        ...

    def held(self, name: str) -> list[ShardKey]:
        """What a member has, or had before it ended."""
        ...

    def ready(self, shards: Sequence[ShardKey]) -> dict[ShardKey, frozenset[str]]:
        """The members that are ready with each of these shards."""
        ...

    def under_replicated(self) -> int:
        """Shards that fewer members are ready with than there are to be."""
        ...

    def note(self, name: str, shards: Sequence[ShardKey], *, ready: bool) -> Future[None]:
        """That a member answers from these shards, or has them and does not."""
        ...

    def give_up(
        self, name: str, version: int, owners: Mapping[ShardKey, frozenset[str]]
    ) -> Future[list[ShardKey]]:
        """Those of the shards that a member has no more, as all their owners by this version of
        the membership are ready with them."""
        ...
