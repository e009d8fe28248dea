"""Opening the database so that a commit is durable, and refusing to run otherwise."""

import sqlite3
from pathlib import Path

from services.retriever.store.sqlite.schema import (
    APPLICATION_ID,
    FORMAT_VERSION,
    MIGRATIONS,
    STATEMENTS,
)
from sirdar.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    SirdarError,
)

PAGE_BYTES = 8192
_BUSY_TIMEOUT_MS = 10_000
# What is not in them is in the system's cache. A reader's is a thread's and never shrinks: there
# are about a dozen, and of a large database it holds little but the upper levels of its trees.
_WRITER_CACHE_KIB = 16 * 1024
_READER_CACHE_KIB = 1024
# A log that one large transaction made longer is cut back at the next checkpoint.
_LOG_BYTES = 64 * 2**20
_SYNCHRONOUS_FULL = 2

_PRIMARY_CODE = 0xFF


def open_writer(file: Path) -> sqlite3.Connection:
    """The one writing connection; creates the schema in a new file.

    Raises FailedPrecondition for a file of a newer format or of another
    program, DataLoss for one that is damaged.
    """
    try:
        connection = _connect(file, _WRITER_CACHE_KIB)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        _check_durable(connection, file)
        _check_format(connection, file)
    except sqlite3.Error as error:
        raise storage_error(error, file) from error
    return connection


def open_reader(file: Path) -> sqlite3.Connection:
    """A connection that cannot write, for one thread at a time."""
    try:
        connection = _connect(file, _READER_CACHE_KIB)
        connection.execute("PRAGMA query_only = 1")
    except sqlite3.Error as error:
        raise storage_error(error, file) from error
    return connection


class NotYetAStore(Exception):
    """There is no store in the file that can be read; there may be one later."""


def open_follower(file: Path) -> sqlite3.Connection:
    """A connection to the store of another process that can only read, for one thread at a time.

    Raises NotYetAStore, FailedPrecondition for a file of a newer format or of
    another program.
    """
    try:
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
        _check_followed(connection, file)
    except sqlite3.OperationalError as error:
        raise NotYetAStore(f"{file} cannot be read: {error}") from error
    except sqlite3.Error as error:
        raise storage_error(error, file) from error
    return connection


def _connect(file: Path, cache_kib: int) -> sqlite3.Connection:
    # Transactions are begun by us; connections are closed by another thread than uses them.
    connection = sqlite3.connect(
        file, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS_FULL}")
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


def _check_durable(connection: sqlite3.Connection, file: Path) -> None:
    """SQLite ignores a pragma that it cannot honour; an acknowledgement must not."""
    wanted = {"journal_mode": "wal", "synchronous": _SYNCHRONOUS_FULL, "foreign_keys": 1}
    for name, value in wanted.items():
        (got,) = connection.execute(f"PRAGMA {name}").fetchone()
        if got != value:
            raise FailedPrecondition(
                f"SQLite has {name} = {got} instead of {value} for {file}: writes would not be "
                "durable; put the data folder on a local file system",
                reason="STORE_NOT_DURABLE",
            )


def _check_format(connection: sqlite3.Connection, file: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute("COMMIT")
    elif application != APPLICATION_ID:
        raise _not_a_store(file)
    elif version > FORMAT_VERSION:
        raise _newer_format(file, version)
    elif version < FORMAT_VERSION:
        _migrate(connection, version)


def _check_followed(connection: sqlite3.Connection, file: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        raise NotYetAStore(f"{file} is empty")
    if application != APPLICATION_ID:
        raise _not_a_store(file)
    if version > FORMAT_VERSION:
        raise _newer_format(file, version)
    if version < FORMAT_VERSION:
        raise NotYetAStore(
            f"{file} has format {version}; who writes it brings it to {FORMAT_VERSION} when it "
            "starts"
        )


def _not_a_store(file: Path) -> FailedPrecondition:
    return FailedPrecondition(
        f"{file} is the database of another program; choose another data folder",
        reason="NOT_A_STORE",
    )


def _newer_format(file: Path, version: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"{file} has format {version}, written by a newer version; this one reads up to "
        f"{FORMAT_VERSION}: upgrade, or choose another data folder",
        reason="NEWER_FORMAT",
    )


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """All steps or none."""
    connection.execute("BEGIN IMMEDIATE")
    for step in range(version, FORMAT_VERSION):
        for statement in MIGRATIONS[step]:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def storage_error(error: sqlite3.Error, file: Path) -> SirdarError:
    """What a fault of the database means to a caller."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return ResourceExhausted(
            f"the disk of {file} is full or failing ({error}): nothing was written; free space "
            "and retry",
            reason="STORE_FULL",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataLoss(f"{file} is damaged ({error}); restore it from a backup")
    return Internal(f"the store failed: {error}")
