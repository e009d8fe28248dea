"""Group commit into PostgreSQL, which other retrievers write too, and which may be gone."""

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from services.retriever.store.group_commit import COMMIT_WRITES, GroupCommit, Waiting, Written, fail
from services.retriever.store.interface import OnCommit
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.connection import (
    UNREACHABLE,
    Connection,
    connect_writer,
    is_busy,
    is_lost,
    storage_error,
)
from services.retriever.store.postgres.transaction import Transaction, lock
from services.retriever.trim import trim_heap
from sirdar.errors import ResourceExhausted, SirdarError, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_Waiting = Waiting[Transaction]
_Done = list[tuple[_Waiting, Written[Any]]]
_Failed = list[tuple[_Waiting, Exception]]

_ATTEMPTS = 4
_PAUSE_SECONDS = 0.1
# A server that restarts is back by then: writes wait for it, and are refused after.
_PATIENCE_SECONDS = 3.0
# Longer than any COMMIT's answer is asked for.
_FORGOTTEN_NS = 7 * 24 * 3600 * 10**9
# How long a closing retriever asks what became of its last transaction.
_FAREWELL_SECONDS = 5.0


class CommitThread(GroupCommit[Transaction]):
    """Each job behind a savepoint of its own, and all locks taken before the first of them.

    Every transaction leaves its number in its writer's row. Where the answer of
    a COMMIT is lost, that row tells whether it is there: writing it waits for
    the end of the transaction, and after that it cannot be committed any more.
    """

    def __init__(self, address: Address, on_commit: OnCommit, *, max_waiting_bytes: int) -> None:
        super().__init__(max_waiting_bytes=max_waiting_bytes)
        self._address = address
        self._on_commit = on_commit
        self._writer = secrets.token_hex(16)
        self._number = 0
        self._connection: Connection | None = connect_writer(address)
        self._forget_others(self._connection)
        self.start()

    def close(self) -> None:
        super().close()
        self._disconnect()

    def _forget_others(self, connection: Connection) -> None:
        """Rows of writers that ended long ago; another that is idle makes its own anew."""
        try:
            connection.execute(
                "DELETE FROM writer WHERE written_ns < %s", (time.time_ns() - _FORGOTTEN_NS,)
            )
        except psycopg.Error as error:
            raise storage_error(error, self._address) from error

    def _rest(self) -> None:
        trim_heap()

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            done, failed = self._committed(group)
        except SirdarError as error:
            fail((item, error) for item in group)
            return
        COMMIT_WRITES.observe(len(done))
        changes = [change for _, written in done for change in written.changes]
        self._on_commit(changes)
        for item, written in done:
            item.future.set_result(written.value)
        fail(failed)
        self._tell()

    def _committed(self, group: Sequence[_Waiting]) -> tuple[_Done, _Failed]:
        """What became of each job; raises SirdarError where nothing of any is there."""
        for attempt in range(_ATTEMPTS):
            connection = self._connected()
            try:
                outcomes = self._run_all(connection, group)
            except psycopg.Error as error:
                # Before COMMIT: nothing is there, and the jobs can run again.
                self._abandon(connection, error)
                again = is_lost(error, connection) or is_busy(error)
                if not again or attempt == _ATTEMPTS - 1:
                    raise storage_error(error, self._address) from error
                time.sleep(_PAUSE_SECONDS * attempt)
                continue
            try:
                answer = connection.execute("COMMIT").statusmessage
            except psycopg.Error as error:
                self._abandon(connection, error)
                if is_lost(error, connection) and self._is_there():
                    return outcomes
                raise storage_error(error, self._address) from error
            if answer == "COMMIT":
                return outcomes
            raise Unavailable(
                f"the transaction ended with {answer}: nothing was written; retry",
                reason="STORE_BUSY",
            )
        raise AssertionError("unreachable")

    def _run_all(self, connection: Connection, group: Sequence[_Waiting]) -> tuple[_Done, _Failed]:
        done: _Done = []
        failed: _Failed = []
        connection.execute("BEGIN")
        bare = Transaction(connection)
        locked = lock(connection, (key for item in group for key in item.locks(bare)))
        transaction = Transaction(connection, locked)
        for item in group:
            outcome = self._run_job(transaction, item)
            if isinstance(outcome, Written):
                done.append((item, outcome))
            else:
                failed.append((item, outcome))
        self._number += 1
        connection.execute(
            "INSERT INTO writer VALUES (%s, %s, %s) ON CONFLICT (id)"
            " DO UPDATE SET write = excluded.write, written_ns = excluded.written_ns",
            (self._writer, self._number, time.time_ns()),
        )
        return done, failed

    def _run_job(self, transaction: Transaction, item: _Waiting) -> Written[Any] | Exception:
        """Raises psycopg.Error only where the whole transaction is lost."""
        connection = transaction.connection
        connection.execute("SAVEPOINT job")
        try:
            written = item.job(transaction)
        except psycopg.Error as error:
            fault = storage_error(error, self._address)
            if is_lost(error, connection) or is_busy(error) or isinstance(fault, ResourceExhausted):
                raise
            outcome: Exception = fault
        except Exception as error:  # noqa: BLE001 - raised again to the job's caller
            outcome = error
        else:
            connection.execute("RELEASE job")
            return written
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return outcome

    def _is_there(self) -> bool:
        """Whether the last transaction was committed. Asks until the database says so."""
        closing_since: float | None = None
        while True:
            try:
                row = (
                    self._connected()
                    .execute(
                        # Writes where a lock would do: a row that is not committed yet cannot be
                        # locked, and one with its id waits for it.
                        "INSERT INTO writer VALUES (%s, 0, %s) ON CONFLICT (id)"
                        " DO UPDATE SET id = excluded.id RETURNING write",
                        (self._writer, time.time_ns()),
                    )
                    .fetchone()
                )
                return row is not None and row[0] == self._number
            except psycopg.Error as error:
                log.warning("the outcome of a commit is not known yet", error=str(error).strip())
                self._disconnect()
            except SirdarError as error:
                log.warning("the outcome of a commit is not known yet", error=error.message)
            if self._closing:
                closing_since = closing_since or time.monotonic()
                if time.monotonic() - closing_since > _FAREWELL_SECONDS:
                    raise Unavailable(
                        "the database is gone; whether the write was committed is not known: read "
                        "before you repeat it",
                        reason="OUTCOME_UNKNOWN",
                    )
            time.sleep(_PAUSE_SECONDS)

    def _connected(self) -> Connection:
        """Waits a little for a server that restarts. Raises SirdarError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._connection is None or self._connection.closed:
            try:
                self._connection = connect_writer(self._address)
            except Unavailable as error:
                if time.monotonic() > until or error.reason != UNREACHABLE:
                    raise
                time.sleep(_PAUSE_SECONDS)
        return self._connection

    def _abandon(self, connection: Connection, error: psycopg.Error) -> None:
        """Nothing of the transaction stays, unless its COMMIT was sent."""
        if not is_lost(error, connection):
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
                return
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell(self) -> None:
        """Wakes those who follow. After the commit, in a transaction that writes nothing: one that
        tells holds a lock of the whole database while it is synced, so that no two commit at a
        time. Where it is lost they look by themselves."""
        if self._connection is not None:
            try:
                self._connection.execute("SELECT pg_notify(%s, '')", (self._address.channel,))
            except psycopg.Error:
                self._disconnect()
