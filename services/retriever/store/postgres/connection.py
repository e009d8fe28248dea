"""Connections to PostgreSQL: made so that a commit is durable, and refused otherwise."""

from datetime import timedelta
from typing import TypeAlias

import psycopg
from prometheus_client import Counter
from psycopg import sql

from services.retriever.store.postgres.address import Address
from sirdar.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    SirdarError,
    Unavailable,
)

Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]

FAILURES = Counter(
    "sirdar_retriever_store_failures_total", "Faults of PostgreSQL, those got over too.", ["reason"]
)
UNREACHABLE = "STORE_UNREACHABLE"
# Counted from zero: a rate does not see the first of what was not there before.
for _reason in (UNREACHABLE, "STORE_BUSY", "STORE_FULL"):
    FAILURES.labels(_reason)
_CREDENTIALS = ("password authentication failed", "no password supplied", "no pg_hba.conf entry")
_RETRY = timedelta(milliseconds=500)
_BUSY = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57014",  # query_canceled
    }
)
_FULL = frozenset({"53100", "53200", "54000"})
_DAMAGED = frozenset({"XX001", "XX002"})
_READ_ONLY = "25006"
_PRIVILEGES = "42501"


def connect(address: Address) -> Connection:
    """A connection that is in no transaction. Raises Unavailable, FailedPrecondition."""
    try:
        return psycopg.connect(address.conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        refused = _not_connected(error, address)
        FAILURES.labels(refused.reason).inc()
        raise refused from error


def connect_reader(connection: Connection, address: Address) -> None:
    """Makes a new connection one that reads this store and writes nothing."""
    _look_in(connection, address)
    connection.execute("SET default_transaction_read_only = on")


def connect_writer(address: Address) -> Connection:
    """Raises FailedPrecondition where a commit would not be durable, Unavailable."""
    connection = connect(address)
    try:
        check_durable(connection, address)
        _look_in(connection, address)
        # Who hangs while it writes gives back its locks; who waits for them is told.
        connection.execute("SET lock_timeout = '10s'")
        connection.execute("SET idle_in_transaction_session_timeout = '10s'")
    except psycopg.Error as error:
        connection.close()
        raise storage_error(error, address) from error
    except SirdarError:
        connection.close()
        raise
    return connection


def check_durable(connection: Connection, address: Address) -> None:
    """What a commit promises in this session, from now on. Raises FailedPrecondition."""
    row = connection.execute(
        "SELECT current_setting('synchronous_commit'), current_setting('fsync', true),"
        " current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchone()
    synchronous_commit, fsync, encoding, standby = row or ("", "", "", False)
    for name, value in (("synchronous_commit", synchronous_commit), ("fsync", fsync)):
        if value == "off":
            raise FailedPrecondition(
                f"PostgreSQL has {name} = off at {address}: writes would not be durable; set it "
                "to on, for the role or for the server",
                reason="STORE_NOT_DURABLE",
            )
    if encoding != "UTF8":
        raise FailedPrecondition(
            f"the database at {address} has the encoding {encoding}; create one with the encoding "
            "UTF8",
            reason="STORE_ENCODING",
        )
    if standby:
        raise Unavailable(
            f"PostgreSQL at {address} is a standby, which cannot be written to; name the primary, "
            "or all hosts with target_session_attrs=read-write",
            reason="STORE_READ_ONLY",
            retry_after=_RETRY,
        )
    # As it is now, whatever the server's default becomes while the session lasts.
    connection.execute(
        sql.SQL("SET synchronous_commit = {}").format(sql.Literal(synchronous_commit))
    )


def is_lost(error: psycopg.Error, connection: Connection) -> bool:
    """Whether the server may not have heard, or answered."""
    return connection.closed or connection.broken or error.sqlstate is None


def is_busy(error: psycopg.Error) -> bool:
    """Whether the same may succeed a moment later."""
    return error.sqlstate in _BUSY


def storage_error(error: psycopg.Error, address: Address) -> SirdarError:
    """What a fault of the database means to a caller; it is counted."""
    found = _meaning(error, address)
    FAILURES.labels(found.reason).inc()
    return found


def _meaning(error: psycopg.Error, address: Address) -> SirdarError:
    state, line = error.sqlstate, _line(error)
    found: SirdarError
    if state in _BUSY:
        found = Unavailable(
            f"the database is busy ({line}): nothing was written; retry",
            reason="STORE_BUSY",
            retry_after=_RETRY,
        )
    elif state in _FULL:
        found = ResourceExhausted(
            f"the database at {address} has no room ({line}): nothing was written; free space "
            "and retry",
            reason="STORE_FULL",
        )
    elif state in _DAMAGED:
        found = DataLoss(f"the database at {address} is damaged ({line}); restore a backup")
    elif state == _PRIVILEGES:
        found = FailedPrecondition(
            f"the user may not do this at {address} ({line}); let it create and own the schema",
            reason="STORE_PRIVILEGES",
        )
    elif state == _READ_ONLY or isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError
    ):
        found = Unavailable(
            f"the database at {address} does not answer ({line}): nothing was written; retry",
            reason=UNREACHABLE,
            retry_after=_RETRY,
        )
    else:
        found = Internal(f"the store failed: {error}")
    return found


def _look_in(connection: Connection, address: Address) -> None:
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(address.schema)))


def _not_connected(error: psycopg.OperationalError, address: Address) -> SirdarError:
    """libpq tells why only in words."""
    text = str(error)
    if any(part in text for part in _CREDENTIALS) or ("role " in text and "not exist" in text):
        return FailedPrecondition(
            f"PostgreSQL at {address} refuses the user ({_line(error)}); correct the user and the "
            "password in `store`",
            reason="STORE_CREDENTIALS",
        )
    if "database " in text and "does not exist" in text:
        return FailedPrecondition(
            f"there is no database at {address}; create it, or name another in `store`",
            reason="STORE_DATABASE_MISSING",
        )
    if "too many" in text or "remaining connection slots" in text:
        return ResourceExhausted(
            f"PostgreSQL at {address} has no connection left ({_line(error)}); lower "
            "`store_connections`, or raise max_connections",
            reason="STORE_CONNECTIONS",
            retry_after=_RETRY,
        )
    return Unavailable(
        f"PostgreSQL at {address} cannot be reached ({_line(error)}); see that it runs and that "
        "`store` names it",
        reason=UNREACHABLE,
        retry_after=_RETRY,
    )


def _line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)
