"""The reads of the store, each in the thread that asks."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, local

from services.retriever.store.records import (
    Change,
    Collection,
    DocumentPage,
    DocumentState,
    EmbeddedDocument,
    Generation,
    Head,
    KeyedDocument,
    Passage,
    StoredDocument,
    TextChange,
)
from services.retriever.store.sqlite import collections, positions, reads, snapshots, vectors
from services.retriever.store.sqlite.connection import open_reader, storage_error
from services.retriever.store.tombstones import DocumentKeys
from sirdar.errors import NotFound


class SqliteReads:
    """What `Store` reads: a connection for each thread. `clock` tells nanoseconds since the
    epoch; `connect` raises what its connections do."""

    def __init__(
        self,
        file: Path,
        connect: Callable[[Path], sqlite3.Connection] = open_reader,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._file = file
        self._clock = clock
        self._connect = connect
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = Lock()
        self._thread = local()

    def collection(self, namespace: str, name: str) -> Collection:
        with self._reading() as connection:
            return collections.get(connection, namespace, name)

    def collections(self, namespace: str, after: str, limit: int) -> list[Collection]:
        with self._reading() as connection:
            return collections.page(connection, namespace, after, limit)

    def all_collections(self) -> list[Collection]:
        with self._reading() as connection:
            return collections.every(connection)

    def has_expired(self) -> bool:
        with self._reading() as connection:
            return reads.has_expired(connection, self._clock())

    def expired_keys(self, generation: Generation) -> list[int]:
        with self._reading() as connection:
            return reads.expired_keys(connection, generation, self._clock())

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
            seqs = positions.last(connection, generation.key)
        if not seqs:
            raise NotFound("the collection was deleted", reason="COLLECTION_NOT_FOUND")
        return seqs

    def heads(self) -> list[Head]:
        with self._reading() as connection:
            return positions.heads(connection)

    def changes(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[Change]:
        with self._reading() as connection:
            yield from reads.changes(connection, generation, shard, after_seq, purged_seq)

    def document_keys(self, generation: Generation, shard: int) -> DocumentKeys:
        with self._reading() as connection:
            return reads.document_keys(connection, generation, shard)

    def metadata(self, generation: Generation, shard: int) -> Iterator[tuple[int, bytes | None]]:
        with self._reading() as connection:
            yield from reads.metadata(connection, generation, shard)

    def keyed_documents(self, generation: Generation, keys: Sequence[int]) -> list[KeyedDocument]:
        with self._reading() as connection:
            return reads.keyed_documents(connection, generation, keys, self._clock())

    def texts(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[TextChange]:
        with self._reading() as connection:
            yield from reads.texts(connection, generation, shard, after_seq, purged_seq)

    def identity(self) -> str:
        with self._reading() as connection:
            return snapshots.identity(connection)

    def snapshots(self, generation: Generation) -> list[str]:
        with self._reading() as connection:
            return snapshots.known(connection, generation)

    def close_readers(self) -> None:
        """Nothing reads any more."""
        with self._readers_lock:
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The reading connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            connection = self._thread.connection = self._connect(self._file)
            with self._readers_lock:
                self._readers.append(connection)
        try:
            yield connection
        except sqlite3.Error as error:
            raise storage_error(error, self._file) from error
