"""The thread that commits outlives what goes wrong with a group of writes."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.retriever.store.group_commit import Written
from services.retriever.store.records import Change
from services.retriever.store.sqlite.commit import CommitThread
from sirdar.errors import Internal, SirdarError


class Faulty(sqlite3.Connection):
    """Fails once on each statement of `faults`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.faults: list[str] = []

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql in self.faults:
            self.faults.remove(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *arguments)


class Applied:
    """Takes what was committed; raises once where told to."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def __call__(self, changes: Sequence[Change]) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Faulty]:
    with closing(
        sqlite3.connect(
            tmp_path / "store.db", factory=Faulty, isolation_level=None, check_same_thread=False
        )
    ) as opened:
        opened.execute("CREATE TABLE written (number INTEGER)")
        yield opened


@pytest.fixture
def applied() -> Applied:
    return Applied()


@pytest.fixture
def writer(connection: Faulty, applied: Applied, tmp_path: Path) -> Iterator[CommitThread]:
    thread = CommitThread(connection, tmp_path / "store.db", applied, max_waiting_bytes=2**20)
    yield thread
    thread.close()


def write(writer: CommitThread, number: int, *changes: Any) -> int:
    def job(connection: sqlite3.Connection) -> Written[int]:
        connection.execute("INSERT INTO written VALUES (?)", (number,))
        return Written(number, changes)

    return writer.submit(job, 1).result(timeout=20)


def rows(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM written")]


def test_a_write_fails_with_its_transaction_and_the_next_one_is_committed(
    connection: Faulty, writer: CommitThread
) -> None:
    connection.faults = ["COMMIT"]
    with pytest.raises(SirdarError):
        write(writer, 1)
    assert write(writer, 2) == 2
    assert rows(connection) == [2]


def test_what_could_not_be_rolled_back_is_before_the_next_write(
    connection: Faulty, writer: CommitThread
) -> None:
    connection.faults = ["COMMIT", "ROLLBACK"]
    with pytest.raises(SirdarError):
        write(writer, 1)
    assert write(writer, 2) == 2
    assert rows(connection) == [2]


def test_a_fault_in_what_takes_the_changes_is_told_and_ends_nothing(
    connection: Faulty, writer: CommitThread, applied: Applied
) -> None:
    applied.fault = RuntimeError("an event loop is closed")
    with pytest.raises(Internal, match="not known"):
        write(writer, 1, object())
    assert write(writer, 2, object()) == 2
    assert rows(connection) == [1, 2]
