"""The store of record in a schema of a PostgreSQL database."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock

import structlog

from services.cluster.membership import Membership, Replica
from services.retriever.store import documents
from services.retriever.store.group_commit import ShardKey
from services.retriever.store.interface import OnCommit
from services.retriever.store.placement import shard_of
from services.retriever.store.postgres import (
    collections,
    members,
    positions,
    reads,
    rows,
    snapshots,
)
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.commit import CommitThread
from services.retriever.store.postgres.listener import Listener
from services.retriever.store.postgres.reading import PostgresReads
from services.retriever.store.postgres.rows import PostgresRows
from services.retriever.store.postgres.tables import prepare
from services.retriever.store.records import (
    Change,
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Deletion,
    DocumentPatch,
    DocumentWrite,
    Generation,
    Head,
    WriteResult,
)
from sirdar.errors import SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SMALL_WRITE_BYTES = 4096


class PostgresStore(PostgresReads):
    """Implements `SharedStore`: other processes write it too, each through one of these.

    `on_commit` is told of what was written here, from the writing thread: between
    the sequences of two of its changes there may be those of others. `clock`
    tells nanoseconds since the epoch. Opening raises FailedPrecondition and
    Unavailable, as `prepare` and `connect_writer` do.
    """

    def __init__(
        self,
        address: Address,
        on_commit: OnCommit,
        *,
        max_waiting_bytes: int,
        connections: int = 8,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        prepare(address)
        self._on_commit = on_commit
        self._revision = 0
        self._revision_lock = Lock()
        # When the first document is over, and the revision at which that was read.
        self._expiry: tuple[int, int | None] = (-1, None)
        self._commits = CommitThread(address, self._committed, max_waiting_bytes=max_waiting_bytes)
        super().__init__(address, connections=connections, clock=clock)
        self._opening = self._read(positions.opening)
        self._membership = self._read(members.membership)
        self._listener = Listener(address, self._heard)
        self._closed = False
        self._purge()

    def create_collection(self, definition: CollectionDefinition) -> Future[Collection]:
        return self._commits.submit(
            lambda transaction: collections.create(transaction, definition), _SMALL_WRITE_BYTES
        )

    def update_collection(
        self, namespace: str, name: str, update: CollectionUpdate
    ) -> Future[Collection]:
        return self._commits.submit(
            lambda transaction: collections.update(transaction, namespace, name, update),
            _SMALL_WRITE_BYTES,
        )

    def delete_collection(self, namespace: str, name: str) -> Future[Generation]:
        future = self._commits.submit(
            lambda transaction: collections.drop(transaction, namespace, name),
            _SMALL_WRITE_BYTES,
            lambda transaction: collections.shards(transaction, namespace, name),
        )
        future.add_done_callback(lambda _: self._purge())
        return future

    def write_documents(
        self, generation: Generation, writes: Sequence[DocumentWrite]
    ) -> Future[list[WriteResult]]:
        locks = _shards(generation, (item.id for item in writes))
        return self._commits.submit(
            lambda transaction: documents.write(
                PostgresRows(transaction), generation, writes, self._clock()
            ),
            sum(item.size_bytes for item in writes),
            lambda _: locks,
        )

    def update_documents(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> Future[list[WriteResult]]:
        locks = _shards(generation, (item.id for item in patches))
        return self._commits.submit(
            lambda transaction: documents.update(
                PostgresRows(transaction), generation, patches, self._clock()
            ),
            _SMALL_WRITE_BYTES + sum(item.size_bytes for item in patches),
            lambda _: locks,
        )

    def delete_documents(
        self, generation: Generation, ids: Sequence[str], versions: Sequence[int] | None = None
    ) -> Future[list[Deletion]]:
        locks = _shards(generation, ids)
        return self._commits.submit(
            lambda transaction: documents.delete(
                PostgresRows(transaction), generation, ids, self._clock(), versions
            ),
            _SMALL_WRITE_BYTES + sum(map(len, ids)),
            lambda _: locks,
        )

    def has_expired(self) -> bool:
        """Reads from the database where something was committed since the last time."""
        revision = self._revision
        read_at, first = self._expiry
        if read_at != revision:
            first = self._read(reads.first_expiry)
            self._expiry = (revision, first)
        return first is not None and first <= self._clock()

    def sweep(self, limit: int) -> Future[int]:
        now = self._clock()
        return self._commits.submit(
            lambda transaction: documents.sweep(PostgresRows(transaction), now, limit),
            _SMALL_WRITE_BYTES,
            lambda transaction: rows.shards_of_expired(transaction, now, limit),
        )

    def purge_tombstones(self, kept_seconds: float, limit: int) -> Future[int]:
        before = self._clock() - int(kept_seconds * 1e9)
        return self._commits.submit(
            lambda transaction: documents.purge(PostgresRows(transaction), before, limit),
            _SMALL_WRITE_BYTES,
            lambda transaction: rows.shards_of_tombstones(transaction, before, limit),
        )

    def note_snapshot(
        self, generation: Generation, name: str, forgotten: Sequence[str]
    ) -> Future[None]:
        return self._commits.submit(
            lambda transaction: snapshots.note(transaction, generation, name, forgotten),
            _SMALL_WRITE_BYTES,
        )

    def heads(self) -> list[Head]:
        # Who knows of a collection knows of the members that there were before it.
        self._opening, heads, self._membership = self._read(
            lambda connection: (
                positions.opening(connection),
                positions.heads(connection),
                members.membership(connection),
            )
        )
        return heads

    def opening(self) -> str:
        """As of the last `heads`."""
        return self._opening

    def register(self, name: str, replication: int) -> Future[Membership]:
        return self._commits.submit(
            lambda transaction: members.register(transaction, name, replication),
            _SMALL_WRITE_BYTES,
        )

    def membership(self) -> Membership:
        """As of the last `heads`."""
        return self._membership

    def drain(self, name: str, *, force: bool) -> Future[Membership]:
        return self._commits.submit(
            lambda transaction: members.drain(transaction, name, force=force), _SMALL_WRITE_BYTES
        )

    def undrain(self, name: str) -> Future[Membership]:
        return self._commits.submit(
            lambda transaction: members.undrain(transaction, name), _SMALL_WRITE_BYTES
        )

    def remove(self, name: str, *, force: bool) -> Future[Membership]:
        return self._commits.submit(
            lambda transaction: members.remove(transaction, name, force=force), _SMALL_WRITE_BYTES
        )

    def members(self) -> Membership:
        return self._read(members.membership)

    def replicas(self) -> list[Replica]:
        return self._read(members.replicas)

    def held(self, name: str) -> list[ShardKey]:
        return self._read(lambda connection: members.held(connection, name))

    def ready(self, shards: Sequence[ShardKey]) -> dict[ShardKey, frozenset[str]]:
        return self._read(lambda connection: members.ready(connection, shards))

    def under_replicated(self) -> int:
        return self._read(members.under_replicated)

    def note(self, name: str, shards: Sequence[ShardKey], *, ready: bool) -> Future[None]:
        return self._commits.submit(
            lambda transaction: members.note(transaction, name, shards, ready=ready),
            _SMALL_WRITE_BYTES,
        )

    def give_up(
        self, name: str, version: int, owners: Mapping[ShardKey, frozenset[str]]
    ) -> Future[list[ShardKey]]:
        return self._commits.submit(
            lambda transaction: members.give_up(transaction, name, version, owners),
            _SMALL_WRITE_BYTES,
        )

    def revision(self, *, certain: bool = False) -> int:
        if certain:
            self._heard()
        return self._revision

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._commits.close()
        self._listener.close()
        self.close_readers()

    def _heard(self) -> None:
        with self._revision_lock:
            self._revision += 1

    def _committed(self, changes: Sequence[Change]) -> None:
        self._heard()
        if changes:
            self._on_commit(changes)

    def _purge(self) -> None:
        """Removes the rows of dropped collections, a step a transaction, until none are left."""

        def step_done(future: Future[bool]) -> None:
            error = future.exception()
            if error is not None:
                log.warning(
                    "rows of deleted collections stay until the next start", error=str(error)
                )
            elif future.result():
                self._purge()

        try:
            step = self._commits.submit(collections.purge, _SMALL_WRITE_BYTES)
        except SirdarError as error:
            log.warning("rows of deleted collections stay until the next start", error=str(error))
        else:
            step.add_done_callback(step_done)


def _shards(generation: Generation, ids: Iterable[str]) -> set[ShardKey]:
    return {(generation.key, shard_of(document_id, generation.shards)) for document_id in ids}
