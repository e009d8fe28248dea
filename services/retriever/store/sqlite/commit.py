"""Group commit into SQLite: one transaction, each job behind a savepoint of its own."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.retriever.store.group_commit import COMMIT_WRITES, GroupCommit, Waiting, Written, fail
from services.retriever.store.interface import OnCommit
from services.retriever.store.sqlite.connection import storage_error
from services.retriever.trim import trim_heap
from sirdar.errors import ResourceExhausted

_Waiting = Waiting[sqlite3.Connection]


class CommitThread(GroupCommit[sqlite3.Connection]):
    """A job that raises is rolled back alone. Started when it is made."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path,
        on_commit: OnCommit,
        *,
        max_waiting_bytes: int,
    ) -> None:
        super().__init__(max_waiting_bytes=max_waiting_bytes)
        self._connection = connection
        self._file = file
        self._on_commit = on_commit
        self.start()

    def _rest(self) -> None:
        """Gives back the memory that the last writes took."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA shrink_memory")
        trim_heap()

    def _roll_back(self) -> None:
        """What cannot be rolled back now, on a full disk, is before the next transaction."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _commit(self, group: Sequence[_Waiting]) -> None:
        done: list[tuple[_Waiting, Written[Any]]] = []
        failed: list[tuple[_Waiting, Exception]] = []
        self._roll_back()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for item in group:
                outcome = self._run_job(item)
                if isinstance(outcome, Written):
                    done.append((item, outcome))
                else:
                    failed.append((item, outcome))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            fault = storage_error(error, self._file)
            fail((item, fault) for item in group)
            return
        COMMIT_WRITES.observe(len(done))
        changes = [change for _, written in done for change in written.changes]
        if changes:
            self._on_commit(changes)
        for item, written in done:
            item.future.set_result(written.value)
        fail(failed)

    def _run_job(self, item: _Waiting) -> Written[Any] | Exception:
        """Raises sqlite3.Error only where the whole transaction is lost."""
        self._connection.execute("SAVEPOINT job")
        try:
            written = item.job(self._connection)
        except sqlite3.Error as error:
            fault = storage_error(error, self._file)
            if isinstance(fault, ResourceExhausted) or not self._connection.in_transaction:
                raise
            self._undo()
            return fault
        except Exception as error:  # noqa: BLE001 - raised again to the job's caller
            self._undo()
            return error
        self._connection.execute("RELEASE job")
        return written

    def _undo(self) -> None:
        self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")
