"""The store of record in one SQLite file."""

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import structlog

from services.retriever.store import documents
from services.retriever.store.interface import OnCommit
from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Deletion,
    DocumentPatch,
    DocumentWrite,
    Generation,
    WriteResult,
)
from services.retriever.store.sqlite import collections, positions, snapshots
from services.retriever.store.sqlite.commit import CommitThread
from services.retriever.store.sqlite.connection import open_writer
from services.retriever.store.sqlite.reading import SqliteReads
from services.retriever.store.sqlite.rows import SqliteRows
from sirdar.errors import SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SMALL_WRITE_BYTES = 4096


class SqliteStore(SqliteReads):
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
        super().__init__(file, clock=clock)
        self._writer = open_writer(file)
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

    def write_documents(
        self, generation: Generation, writes: Sequence[DocumentWrite]
    ) -> Future[list[WriteResult]]:
        return self._commits.submit(
            lambda connection: documents.write(
                SqliteRows(connection), generation, writes, self._clock()
            ),
            sum(item.size_bytes for item in writes),
        )

    def update_documents(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> Future[list[WriteResult]]:
        return self._commits.submit(
            lambda connection: documents.update(
                SqliteRows(connection), generation, patches, self._clock()
            ),
            _SMALL_WRITE_BYTES + sum(item.size_bytes for item in patches),
        )

    def delete_documents(
        self, generation: Generation, ids: Sequence[str], versions: Sequence[int] | None = None
    ) -> Future[list[Deletion]]:
        return self._commits.submit(
            lambda connection: documents.delete(
                SqliteRows(connection), generation, ids, self._clock(), versions
            ),
            _SMALL_WRITE_BYTES + sum(map(len, ids)),
        )

    def sweep(self, limit: int) -> Future[int]:
        return self._commits.submit(
            lambda connection: documents.sweep(SqliteRows(connection), self._clock(), limit),
            _SMALL_WRITE_BYTES,
        )

    def purge_tombstones(self, kept_seconds: float, limit: int) -> Future[int]:
        return self._commits.submit(
            lambda connection: documents.purge(
                SqliteRows(connection), self._clock() - int(kept_seconds * 1e9), limit
            ),
            _SMALL_WRITE_BYTES,
        )

    def opening(self) -> str:
        return self._opening

    def note_snapshot(
        self, generation: Generation, name: str, forgotten: Sequence[str]
    ) -> Future[None]:
        return self._commits.submit(
            lambda connection: snapshots.note(connection, generation, name, forgotten),
            _SMALL_WRITE_BYTES,
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._commits.close()
        self.close_readers()
        self._writer.close()

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
