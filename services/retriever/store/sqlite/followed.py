"""The store of another process, read beside it."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import structlog

from services.retriever.store.refusing import RefusesWrites
from services.retriever.store.sqlite import positions
from services.retriever.store.sqlite.connection import NotYetAStore, open_follower
from services.retriever.store.sqlite.reading import SqliteReads
from sirdar.errors import Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LOOK_SECONDS = 0.1
_TELL_SECONDS = 10.0


def await_store(file: Path, closing: Event) -> None:
    """Returns when there is a store that can be read, or `closing` is set: who writes it may
    start later. Raises FailedPrecondition where the file is nothing to follow."""
    told = -_TELL_SECONDS
    while not closing.is_set():
        try:
            open_follower(file).close()
        except NotYetAStore as error:
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                log.warning("waiting for the store to follow", error=str(error))
            closing.wait(_LOOK_SECONDS)
        else:
            return


class FollowedSqliteStore(RefusesWrites, SqliteReads):
    """Implements `FollowedStore`. SQLite's write-ahead log lets processes of one machine read
    beside the one that writes, also while it is gone."""

    def __init__(self, file: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        super().__init__(file, self._open, clock=clock)
        self._inode = file.stat().st_ino
        self._opening = ""
        self._revision: int | None = None

    def revision(self, *, certain: bool = False) -> int:
        self._check_same()
        with self._reading() as connection:
            revision = _data_version(connection)
            if revision != self._revision:
                self._revision = revision
                self._opening = positions.opening(connection)
        return revision

    def opening(self) -> str:
        """As of the last `revision`."""
        return self._opening

    def past(self) -> str:
        return f"{self.identity()} {self._inode}"

    def close(self) -> None:
        self.close_readers()

    def _open(self, file: Path) -> sqlite3.Connection:
        """Another thread's connection: to the same file as all, or none."""
        try:
            connection = open_follower(file)
        except NotYetAStore as error:
            raise Unavailable(f"the store cannot be read any more: {error}") from error
        self._check_same()
        return connection

    def _check_same(self) -> None:
        """A backup that was put in its place is another file, and what is open is gone."""
        try:
            same = self._file.stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise Unavailable(
                f"{self._file} was replaced or removed; restart this replica",
                reason="STORE_REPLACED",
            )


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
