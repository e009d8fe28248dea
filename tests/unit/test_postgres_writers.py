"""Several write one store in PostgreSQL: sequences, locks, and commits whose answer is lost."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from random import Random

import psycopg
import pytest

from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.retriever.store.records import Collection, Receipt
from sirdar.errors import NotFound, Unavailable
from tests.retriever_data import Log, definition, document, write

_WRITERS = 3
_CALLS = 25


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def open_another(postgres_url: str) -> Iterator[Callable[[Log], PostgresStore]]:
    """Each call is another retriever on the same database."""
    opened: list[PostgresStore] = []

    def another(log: Log) -> PostgresStore:
        opened.append(PostgresStore(Address(postgres_url), log, max_waiting_bytes=2**24))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


class Reader(threading.Thread):
    """Reads the log of a shard from where it was, all the time."""

    def __init__(self, store: PostgresStore, collection: Collection, shard: int) -> None:
        super().__init__()
        self._store = store
        self._of = (collection.generation, shard)
        self.seqs: list[int] = []
        self.done = threading.Event()

    def run(self) -> None:
        last_time = False
        while not last_time:
            last_time = self.done.is_set()
            after = self.seqs[-1] if self.seqs else 0
            self.seqs.extend(
                change.position.seq for change in self._store.changes(*self._of, after)
            )


def _together(calls: Sequence[Callable[[], None]]) -> None:
    faults: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_readers_see_each_sequence_once_and_in_order_while_many_write(
    open_another: Callable[[Log], PostgresStore],
) -> None:
    """New documents alone, so that every sequence has its row: a reader that skipped one, as it
    was committed after a later one, would never come back for it."""
    logs = [Log() for _ in range(_WRITERS)]
    stores = [open_another(log) for log in logs]
    collection = stores[0].create_collection(definition("books")).result()
    readers = [Reader(open_another(Log()), collection, shard) for shard in range(3)]

    def writing(number: int) -> Callable[[], None]:
        def call() -> None:
            random = Random(number)
            for at in range(_CALLS):
                ids = [f"{number}-{at}-{each}" for each in range(random.randint(1, 9))]
                write(stores[number], collection, *map(document, ids))

        return call

    for reader in readers:
        reader.start()
    _together([writing(number) for number in range(_WRITERS)])
    committed = stores[0].committed_seqs(collection.generation)
    for reader, last in zip(readers, committed, strict=True):
        reader.done.set()
        reader.join()
        assert reader.seqs == list(range(1, last + 1))
    told: dict[int, list[int]] = defaultdict(list)
    for change in (change for log in logs for change in log.changes):
        told[change.position.shard].append(change.position.seq)
    assert [sorted(told[shard]) for shard in range(3)] == [
        list(range(1, last + 1)) for last in committed
    ]
    assert store_counts(stores[0]) == (sum(committed), sum(committed))


def store_counts(store: PostgresStore) -> tuple[int, int]:
    counted = store.collection("default", "books")
    return counted.documents, counted.passages


def test_writers_of_the_same_documents_lose_no_version_and_wait_in_one_order(
    open_another: Callable[[Log], PostgresStore],
) -> None:
    """Two collections, their documents in any order: with locks taken as they come, two writers
    would wait for each other."""
    stores = [open_another(Log()) for _ in range(_WRITERS)]
    made = [stores[0].create_collection(definition(name)).result() for name in ("books", "films")]
    ids = [f"d{at}" for at in range(12)]
    wins: list[int] = []

    def writing(number: int) -> Callable[[], None]:
        def call() -> None:
            random = Random(number)
            for _ in range(_CALLS):
                futures = [
                    stores[number].write_documents(
                        collection.generation,
                        [document(item, "x" * number) for item in random.sample(ids, 6)],
                    )
                    for collection in random.sample(made, 2)
                ]
                for future in futures:
                    assert all(isinstance(item, Receipt) for item in future.result())
                version = stores[number].document_states(made[0].generation, ["d0"])
                guarded = document("d0", if_version=version[0].version if version else 0)
                (result,) = stores[number].write_documents(made[0].generation, [guarded]).result()
                wins.extend([1] if isinstance(result, Receipt) else [])

        return call

    _together([writing(number) for number in range(_WRITERS)])
    for collection, extra in zip(made, (len(wins), 0), strict=True):
        states = stores[0].document_states(collection.generation, ids)
        total = _WRITERS * _CALLS * 6 + extra
        assert sum(state.version for state in states) == total
        assert sum(stores[0].committed_seqs(collection.generation)) == total


def test_a_collection_is_created_once_and_who_writes_to_a_deleted_one_is_told(
    open_another: Callable[[Log], PostgresStore],
) -> None:
    first, second = open_another(Log()), open_another(Log())
    made = [store.create_collection(definition("books")) for store in (first, second)]
    assert sum(future.exception() is None for future in made) == 1
    collection = first.collection("default", "books")
    write(second, collection, document("d"))
    first.delete_collection("default", "books").result()
    with pytest.raises(NotFound):
        second.write_documents(collection.generation, [document("e")]).result()


def test_who_follows_hears_of_what_another_committed(
    open_another: Callable[[Log], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Messages alone: nobody looks by itself.
    monkeypatch.setattr("services.retriever.store.postgres.listener._LOOK_SECONDS", 1000.0)
    follower, writer = open_another(Log()), open_another(Log())
    collection = writer.create_collection(definition("books")).result()
    heard = follower.revision()
    for at in range(3):
        write(writer, collection, document(f"d{at}"))
        while follower.revision() == heard:
            time.sleep(0.001)
        heard = follower.revision()
    assert sum(follower.heads()[0].seqs) == 3


class Unreliable(psycopg.Connection[tuple[object, ...]]):
    """Does to the next COMMIT what `faults` say."""

    faults: list[str]

    def execute(self, query: object, *arguments: object, **more: object) -> object:  # type: ignore[override]
        if query != "COMMIT" or not self.faults:
            return super().execute(query, *arguments, **more)  # type: ignore[call-overload]
        fault = self.faults.pop()
        if fault == "answer lost":
            super().execute("COMMIT")
        if fault == "ends late":
            # The server goes on for a while with what it has.
            self._ends_late = True
        raise psycopg.OperationalError("the connection is lost")

    _ends_late = False

    def close(self) -> None:
        if not self._ends_late:
            return super().close()
        self._ends_late = False
        threading.Timer(0.3, lambda: psycopg.Connection.execute(self, "COMMIT")).start()
        return None


@pytest.mark.parametrize(
    ("fault", "there"), [("answer lost", True), ("never sent", False), ("ends late", True)]
)
@pytest.mark.parametrize("known", [True, False])
def test_a_commit_without_an_answer_is_acknowledged_and_there_or_refused_and_not_there(
    open_another: Callable[[Log], PostgresStore],
    monkeypatch: pytest.MonkeyPatch,
    postgres_url: str,
    log: Log,
    fault: str,
    there: bool,
    known: bool,
) -> None:
    collection = open_another(Log()).create_collection(definition("books")).result()
    faults: list[str] = []
    monkeypatch.setattr(Unreliable, "faults", faults, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr("psycopg.connect", Unreliable.connect)
        store = open_another(log)
    write(store, collection, document("before"))
    if not known:
        # As before its first write.
        with psycopg.connect(postgres_url) as other:
            other.execute("DELETE FROM sirdar.writer")
    faults.append(fault)
    future = store.write_documents(collection.generation, [document("d")])
    if there:
        assert isinstance(future.result()[0], Receipt)
    else:
        with pytest.raises(Unavailable, match="nothing was written"):
            future.result()
    assert [item.id for item in store.document_states(collection.generation, ["d"])] == (
        ["d"] if there else []
    )
    write(store, collection, document("after"))
    committed = store.committed_seqs(collection.generation)
    assert sum(committed) == (3 if there else 2)
    assert len(log.changes) == sum(committed)


def test_writers_that_ended_long_ago_are_forgotten(
    open_another: Callable[[Log], PostgresStore], postgres_url: str
) -> None:
    write(open_another(Log()), open_another(Log()).create_collection(definition("a")).result())
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("INSERT INTO sirdar.writer VALUES ('ended', 1, 0)")
        open_another(Log())
        found = other.execute("SELECT id FROM sirdar.writer").fetchall()
    assert len(found) > 1
    assert ("ended",) not in found
