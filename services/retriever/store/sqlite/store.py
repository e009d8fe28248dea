"""The store of record in one SQLite file."""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, local

import structlog

from services.retriever.store.interface import OnCommit
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
    KeyedDocument,
    Passage,
    StoredDocument,
    TextChange,
    WriteResult,
)
from services.retriever.store.sqlite import (
    collections,
    documents,
    positions,
    reads,
    snapshots,
    vectors,
)
from services.retriever.store.sqlite.commit import CommitThread
from services.retriever.store.sqlite.connection import open_reader, open_writer, storage_error
from sirdar.errors import SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SMALL_WRITE_BYTES = 4096


class SqliteStore:
    """Implements `Store`. One writing thread, a reading connection for each thread that reads.

    `on_commit` is called from the writing thread. `clock` tells nanoseconds since the epoch.
    Opening raises what `open_writer` raises; the caller holds the lock of the data folder.
    """

    def __init__(
        self,
        file: Path,
        on_commit: OnCommit,
        *,
        max_waiting_bytes: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._file = file
        self._clock = clock
        self._writer = open_writer(file)
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = Lock()
        self._thread = local()
        self._commits = CommitThread(
            self._writer, file, on_commit, max_waiting_bytes=max_waiting_bytes
        )
        self._closed = False
        self._opening = secrets.token_hex(8)
        self._open_anew()
        self._purge()

    def create_collection(self, definition: CollectionDefinition) -> Future[Collection]:
        return self._commits.submit(
            lambda connection: collections.create(connection, definition), _SMALL_WRITE_BYTES
        )

    def update_collection(
        self, namespace: str, name: str, update: CollectionUpdate
    ) -> Future[Collection]:
        return self._commits.submit(
            lambda connection: collections.update(connection, namespace, name, update),
            _SMALL_WRITE_BYTES,
        )

    def delete_collection(self, namespace: str, name: str) -> Future[Generation]:
        future = self._commits.submit(
            lambda connection: collections.drop(connection, namespace, name), _SMALL_WRITE_BYTES
        )
        future.add_done_callback(lambda _: self._purge())
        return future

    def collection(self, namespace: str, name: str) -> Collection:
        with self._reading() as connection:
            return collections.get(connection, namespace, name)

    def collections(self, namespace: str, after: str, limit: int) -> list[Collection]:
        with self._reading() as connection:
            return collections.page(connection, namespace, after, limit)

    def all_collections(self) -> list[Collection]:
        with self._reading() as connection:
            return collections.every(connection)

    def write_documents(
        self, generation: Generation, writes: Sequence[DocumentWrite]
    ) -> Future[list[WriteResult]]:
        return self._commits.submit(
            lambda connection: documents.write(connection, generation, writes, self._clock()),
            sum(item.size_bytes for item in writes),
        )

    def update_documents(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> Future[list[WriteResult]]:
        return self._commits.submit(
            lambda connection: documents.update(connection, generation, patches, self._clock()),
            _SMALL_WRITE_BYTES + sum(item.size_bytes for item in patches),
        )

    def delete_documents(
        self, generation: Generation, ids: Sequence[str], versions: Sequence[int] | None = None
    ) -> Future[list[Deletion]]:
        return self._commits.submit(
            lambda connection: documents.delete(
                connection, generation, ids, self._clock(), versions
            ),
            _SMALL_WRITE_BYTES + sum(map(len, ids)),
        )

    def has_expired(self) -> bool:
        with self._reading() as connection:
            return reads.has_expired(connection, self._clock())

    def expired_keys(self, generation: Generation) -> list[int]:
        with self._reading() as connection:
            return reads.expired_keys(connection, generation, self._clock())

    def sweep(self, limit: int) -> Future[int]:
        return self._commits.submit(
            lambda connection: documents.sweep(connection, self._clock(), limit),
            _SMALL_WRITE_BYTES,
        )

    def document_states(self, generation: Generation, ids: Sequence[str]) -> list[DocumentState]:
        with self._reading() as connection:
            return reads.states(connection, generation, ids, self._clock())

    def document(self, generation: Generation, document_id: str) -> StoredDocument:
        with self._reading() as connection:
            return reads.document(connection, generation, document_id, self._clock())

    def embedded_document(self, generation: Generation, document_id: str) -> EmbeddedDocument:
        with self._reading() as connection:
            return vectors.of_document(connection, generation, document_id, self._clock())

    def documents(
        self, generation: Generation, after: str, limit: int, max_bytes: int
    ) -> DocumentPage:
        with self._reading() as connection:
            return reads.documents(connection, generation, after, limit, max_bytes, self._clock())

    def passages(self, passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
        with self._reading() as connection:
            return reads.passages(connection, passage_ids, with_text, self._clock())

    def passages_of(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, Passage]:
        with self._reading() as connection:
            return reads.passages_of(connection, generation, passage_ids, self._clock())

    def vectors(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, bytes]:
        with self._reading() as connection:
            return vectors.of_passages(connection, generation, passage_ids)

    def committed_seqs(self, generation: Generation) -> list[int]:
        with self._reading() as connection:
            return positions.last(connection, generation.key)

    def opening(self) -> str:
        return self._opening

    def changes(self, generation: Generation, shard: int, after_seq: int) -> Iterator[Change]:
        with self._reading() as connection:
            yield from reads.changes(connection, generation, shard, after_seq)

    def metadata(self, generation: Generation, shard: int) -> Iterator[tuple[int, bytes | None]]:
        with self._reading() as connection:
            yield from reads.metadata(connection, generation, shard)

    def keyed_documents(self, generation: Generation, keys: Sequence[int]) -> list[KeyedDocument]:
        with self._reading() as connection:
            return reads.keyed_documents(connection, generation, keys, self._clock())

    def texts(self, generation: Generation, shard: int, after_seq: int) -> Iterator[TextChange]:
        with self._reading() as connection:
            yield from reads.texts(connection, generation, shard, after_seq)

    def identity(self) -> str:
        with self._reading() as connection:
            return snapshots.identity(connection)

    def snapshots(self, generation: Generation) -> list[str]:
        with self._reading() as connection:
            return snapshots.known(connection, generation)

    def keep_snapshots(self, generation: Generation, names: Sequence[str]) -> Future[None]:
        return self._commits.submit(
            lambda connection: snapshots.keep(connection, generation, names), _SMALL_WRITE_BYTES
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._commits.close()
        with self._readers_lock:
            for connection in self._readers:
                connection.close()
        self._writer.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The reading connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            connection = self._thread.connection = open_reader(self._file)
            with self._readers_lock:
                self._readers.append(connection)
        try:
            yield connection
        except sqlite3.Error as error:
            raise storage_error(error, self._file) from error

    def _open_anew(self) -> None:
        """A full disk is no reason not to open: nothing is written to it either."""

        def done(future: Future[None]) -> None:
            if future.exception() is not None:
                log.warning("the opening could not be noted", error=str(future.exception()))

        self._commits.submit(
            lambda connection: positions.open_anew(connection, self._opening), _SMALL_WRITE_BYTES
        ).add_done_callback(done)

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
