"""What SQLite promises as the store of record: durable group commits, and clear refusals."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from services.retriever.data_folder import own
from services.retriever.store.group_commit import Written
from services.retriever.store.interface import Store
from services.retriever.store.records import Collection, Receipt
from services.retriever.store.sqlite.schema import FORMAT_VERSION
from services.retriever.store.sqlite.store import SqliteStore
from sirdar.errors import DataLoss, FailedPrecondition, ResourceExhausted, SirdarError
from tests.retriever_data import Log, definition, document, write


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store(tmp_path: Path, log: Log) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.sqlite3", log, max_waiting_bytes=2**24)
    yield opened
    opened.close()


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create_collection(definition("books")).result()


def test_writers_that_wait_are_committed_together_and_a_bad_one_fails_alone(
    store: SqliteStore, collection: Collection
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> Written[None]:
        entered.set()
        release.wait()
        raise ZeroDivisionError

    def bad_sql(connection: sqlite3.Connection) -> Written[None]:
        connection.execute("UPDATE shard SET seq = seq + 1")
        connection.execute("INSERT INTO passage VALUES (1)")
        return Written(None)

    blocked: Future[None] = store._commits.submit(slow, 1)
    entered.wait()
    futures = [
        store.write_documents(collection.generation, [document(f"d{at}")]) for at in range(5)
    ]
    broken = store._commits.submit(bad_sql, 1)
    release.set()
    with pytest.raises(ZeroDivisionError):
        blocked.result()
    with pytest.raises(SirdarError):
        broken.result()
    assert all(isinstance(future.result()[0], Receipt) for future in futures)
    assert store.collection("default", "books").documents == 5


def test_a_full_queue_refuses_with_a_delay(tmp_path: Path, log: Log) -> None:
    store = SqliteStore(tmp_path / "store.sqlite3", log, max_waiting_bytes=20_000)
    collection = store.create_collection(definition("books")).result()
    release = threading.Event()
    entered = threading.Event()

    def slow(connection: sqlite3.Connection) -> Written[None]:
        entered.set()
        release.wait()
        raise ZeroDivisionError

    store._commits.submit(slow, 1)
    entered.wait()
    accepted = [store.write_documents(collection.generation, [document("d", "x" * 5000)])]
    with pytest.raises(ResourceExhausted) as refusal:
        for _ in range(3):
            accepted.append(
                store.write_documents(collection.generation, [document("d", "x" * 5000)])
            )
    assert refusal.value.retry_after is not None
    release.set()
    for future in accepted:
        future.result()
    assert store.document_states(collection.generation, ["d"])[0].version == len(accepted)
    store.close()


def test_commits_are_durable(tmp_path: Path, log: Log) -> None:
    store = SqliteStore(tmp_path / "store.sqlite3", log, max_waiting_bytes=2**20)
    pragmas = {
        name: store._writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


def test_a_database_that_cannot_be_durable_is_refused(log: Log) -> None:
    # An in-memory database cannot have a write-ahead log.
    with pytest.raises(FailedPrecondition, match="journal_mode"):
        SqliteStore(Path(":memory:"), log, max_waiting_bytes=2**20)


def test_a_newer_format_is_refused(tmp_path: Path, log: Log) -> None:
    file = tmp_path / "store.sqlite3"
    SqliteStore(file, log, max_waiting_bytes=2**20).close()
    with sqlite3.connect(file) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    with pytest.raises(FailedPrecondition, match="newer version") as refusal:
        SqliteStore(file, log, max_waiting_bytes=2**20)
    assert refusal.value.reason == "NEWER_FORMAT"


def test_a_file_that_is_no_store_is_refused(tmp_path: Path, log: Log) -> None:
    foreign = tmp_path / "foreign.sqlite3"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(FailedPrecondition, match="another program"):
        SqliteStore(foreign, log, max_waiting_bytes=2**20)
    garbage = tmp_path / "garbage.sqlite3"
    garbage.write_bytes(os.urandom(10_000))
    with pytest.raises(DataLoss, match=r"garbage\.sqlite3"):
        SqliteStore(garbage, log, max_waiting_bytes=2**20)


def test_one_process_owns_a_data_folder(tmp_path: Path) -> None:
    code = "import sys, pathlib; from services.retriever.data_folder import own\n"
    code += "with own(pathlib.Path(sys.argv[1])): print('owned', flush=True); sys.stdin.read()"
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "owned\n"
    with pytest.raises(FailedPrecondition) as refusal, own(tmp_path):
        pass
    assert refusal.value.reason == "DATA_FOLDER_IN_USE"
    assert str(tmp_path) in refusal.value.message
    assert str(owner.pid) in refusal.value.message
    owner.kill()
    owner.communicate()
    with own(tmp_path):
        pass


def fill(store: Store, collection: Collection) -> tuple[list[str], ResourceExhausted]:
    """Writes until the store is full; the acknowledged ids and the refusal."""
    acknowledged: list[str] = []
    for at in range(10_000):
        try:
            write(store, collection, document(f"d{at}", "x" * 20_000))
        except ResourceExhausted as error:
            return acknowledged, error
        acknowledged.append(f"d{at}")
    raise AssertionError("the store never was full")


def check_full_store(store: SqliteStore, make_space: Callable[[], object], log: Log) -> None:
    collection = store.create_collection(definition("books")).result()
    acknowledged, error = fill(store, collection)
    assert acknowledged
    assert error.reason == "STORE_FULL"
    # Overload passes by itself and says when; who waited for a disk would wait for each batch.
    assert error.retry_after is None
    for document_id in acknowledged:
        assert len(store.document(collection.generation, document_id).text) == 20_000
    make_space()
    (receipt,) = write(store, collection, document("after", "y" * 20_000))
    heard = [item.position.seq for item in log.changes if item.position == receipt.position]
    assert heard == [receipt.position.seq]
    assert store.collection("default", "books").documents == len(acknowledged) + 1
    for shard, committed in enumerate(store.committed_seqs(collection.generation)):
        seqs = [item.position.seq for item in log.changes if item.position.shard == shard]
        assert seqs == list(range(1, committed + 1))


def test_a_full_database_refuses_loses_nothing_and_works_on(tmp_path: Path, log: Log) -> None:
    store = SqliteStore(tmp_path / "store.sqlite3", log, max_waiting_bytes=2**24)
    store._writer.execute("PRAGMA max_page_count = 200")
    check_full_store(store, lambda: store._writer.execute("PRAGMA max_page_count = 100000"), log)
    store.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_refuses_loses_nothing_and_works_on(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        store = SqliteStore(folder / "store.sqlite3", log, max_waiting_bytes=2**24)
        grow = ["mount", "-o", "remount,size=64m", str(folder)]
        check_full_store(store, lambda: subprocess.run(grow, check=True), log)
        store.close()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
