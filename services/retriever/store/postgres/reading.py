"""The reads of the store, each with a connection from the pool."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from services.retriever.store.postgres import collections, positions, reads, snapshots
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.connection import (
    UNREACHABLE,
    Connection,
    connect_reader,
    storage_error,
)
from services.retriever.store.records import (
    Change,
    Collection,
    DocumentPage,
    DocumentState,
    EmbeddedDocument,
    Generation,
    KeyedDocument,
    Passage,
    StoredDocument,
    TextChange,
)
from services.retriever.store.tombstones import DocumentKeys
from sirdar.errors import NotFound, Unavailable

T = TypeVar("T")

# A server that restarts is back by then: reads wait for it, and fail after.
_PATIENCE_SECONDS = 3.0
_PAUSE_SECONDS = 0.1


class PostgresReads:
    """What `Store` reads. `clock` tells nanoseconds since the epoch; at most `connections` reads
    go on at a time, and others wait for them."""

    def __init__(
        self, address: Address, *, connections: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._address = address
        self._clock = clock
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            address.conninfo,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=connections,
            configure=lambda connection: connect_reader(connection, address),
            # Who waits asks again: the pool's own pauses double while the server is away.
            timeout=1.0,
            reconnect_timeout=1.0,
            name="store",
            open=True,
        )

    def collection(self, namespace: str, name: str) -> Collection:
        return self._read(lambda connection: collections.get(connection, namespace, name))

    def collections(self, namespace: str, after: str, limit: int) -> list[Collection]:
        return self._read(lambda connection: collections.page(connection, namespace, after, limit))

    def all_collections(self) -> list[Collection]:
        return self._read(collections.every)

    def expired_keys(self, generation: Generation) -> list[int]:
        now = self._clock()
        return self._read(lambda connection: reads.expired_keys(connection, generation, now))

    def document_states(self, generation: Generation, ids: Sequence[str]) -> list[DocumentState]:
        now = self._clock()
        return self._read(lambda connection: reads.states(connection, generation, ids, now))

    def document(self, generation: Generation, document_id: str) -> StoredDocument:
        now = self._clock()
        return self._read(
            lambda connection: reads.document(connection, generation, document_id, now)
        )

    def embedded_document(self, generation: Generation, document_id: str) -> EmbeddedDocument:
        now = self._clock()
        return self._read(
            lambda connection: reads.embedded_document(connection, generation, document_id, now)
        )

    def documents(
        self, generation: Generation, after: str, limit: int, max_bytes: int
    ) -> DocumentPage:
        now = self._clock()
        return self._read(
            lambda connection: reads.documents(connection, generation, after, limit, max_bytes, now)
        )

    def passages(self, passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
        now = self._clock()
        return self._read(
            lambda connection: reads.passages(connection, passage_ids, with_text, now)
        )

    def passages_of(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, Passage]:
        now = self._clock()
        return self._read(
            lambda connection: reads.passages_of(connection, generation, passage_ids, now)
        )

    def vectors(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, bytes]:
        return self._read(lambda connection: reads.vectors(connection, generation, passage_ids))

    def committed_seqs(self, generation: Generation) -> list[int]:
        seqs = self._read(lambda connection: positions.last(connection, generation.key))
        if not seqs:
            raise NotFound("the collection was deleted", reason="COLLECTION_NOT_FOUND")
        return seqs

    def changes(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[Change]:
        found = True
        while found:
            found = False
            with self._reading() as connection:
                for change in reads.changes(connection, generation, shard, after_seq, purged_seq):
                    found, after_seq = True, change.position.seq
                    yield change

    def document_keys(self, generation: Generation, shard: int) -> DocumentKeys:
        return self._read(lambda connection: reads.document_keys(connection, generation, shard))

    def texts(
        self, generation: Generation, shard: int, after_seq: int, purged_seq: int = 0
    ) -> Iterator[TextChange]:
        found = True
        while found:
            found = False
            with self._reading() as connection:
                for change in reads.texts(connection, generation, shard, after_seq, purged_seq):
                    found, after_seq = True, change.seq
                    yield change

    def metadata(self, generation: Generation, shard: int) -> Iterator[tuple[int, bytes | None]]:
        with self._reading() as connection:
            yield from reads.metadata(connection, generation, shard)

    def keyed_documents(self, generation: Generation, keys: Sequence[int]) -> list[KeyedDocument]:
        now = self._clock()
        return self._read(
            lambda connection: reads.keyed_documents(connection, generation, keys, now)
        )

    def identity(self) -> str:
        return self._read(positions.identity)

    def past(self) -> str:
        return self._read(positions.past)

    def snapshots(self, generation: Generation) -> list[str]:
        return self._read(lambda connection: snapshots.known(connection, generation))

    def close_readers(self) -> None:
        """Nothing reads any more."""
        self._pool.close()

    def _read(self, call: Callable[[Connection], T]) -> T:
        """Again where the connection was lost. Raises what the call does, and SirdarError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self._reading() as connection:
                    return call(connection)
            except Unavailable as error:
                if error.reason != UNREACHABLE or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection of the pool. Raises Unavailable where there is none in time, or it is
        lost."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, PoolClosed) as error:
            raise Unavailable(
                f"no connection to the database at {self._address} is free or can be made "
                f"({error}); see that it runs, or raise `store_connections`",
                reason=UNREACHABLE,
            ) from error
        except psycopg.Error as error:
            raise storage_error(error, self._address) from error
