"""The stores of record, opened for tests of what all of them promise."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from services.retriever.store.interface import OnCommit, Store
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.retriever.store.sqlite.store import SqliteStore

_WAITING_BYTES = 2**24


class OpenStore(Protocol):
    """Opens the same store at each call."""

    def __call__(self, on_commit: OnCommit, *, clock: Callable[[], int] = ...) -> Store: ...


def opener(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Of the store that the fixture's parameter names."""
    if request.param == "sqlite":
        file = tmp_path / "store.sqlite3"

        def sqlite(on_commit: OnCommit, *, clock: Callable[[], int] = time.time_ns) -> Store:
            return SqliteStore(file, on_commit, max_waiting_bytes=_WAITING_BYTES, clock=clock)

        return sqlite
    address = Address(request.getfixturevalue("postgres_url"))

    def postgresql(on_commit: OnCommit, *, clock: Callable[[], int] = time.time_ns) -> Store:
        return PostgresStore(address, on_commit, max_waiting_bytes=_WAITING_BYTES, clock=clock)

    return postgresql
