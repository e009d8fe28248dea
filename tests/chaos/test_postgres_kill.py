"""PostgreSQL, and retrievers that share it, killed in the middle of writes: what was acknowledged
is there, what was refused is not, and sequences have no gap."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import grpc
import psutil
import psycopg
import pytest
from prometheus_client import REGISTRY

from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.retriever.store.records import Collection, Receipt
from sirdar.errors import ResourceExhausted, Unavailable
from tests.chaos.model.process import RetrieverProcess
from tests.postgres_server import PostgresServer, postgres_server
from tests.retriever_data import Log, definition, document
from tests.rpc.replica_calls import everything, single
from tests.rpc.retriever_calls import Stub, create, write

_WRITERS = 2
_KILLS = 4


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of its own, to be killed."""
    with postgres_server() as own:
        yield own


class Writer(threading.Thread):
    """Writes new documents, and one that it writes again and again, until it is told to stop."""

    def __init__(self, name: str, store: PostgresStore, collection: Collection) -> None:
        super().__init__(name=name)
        self._store = store
        self._collection = collection
        self.stop = threading.Event()
        self.acknowledged: dict[str, Receipt] = {}
        self.refused: set[str] = set()
        self.faults: list[BaseException] = []

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            ids = [f"{self.name}-{number}-{at}" for at in range(3)]
            writes = [document(item) for item in ids]
            try:
                results = self._store.write_documents(self._collection.generation, writes).result()
            except (Unavailable, ResourceExhausted) as error:
                if "nothing was written" not in error.message and "reached" not in error.message:
                    self.faults.append(error)
                self.refused.update(ids)
            except BaseException as error:
                self.faults.append(error)
                raise
            else:
                for item, result in zip(ids, results, strict=True):
                    assert isinstance(result, Receipt)
                    self.acknowledged[item] = result


def administrator(server: PostgresServer) -> psycopg.Connection:
    """It may still be about to notice the harm before, or recover from it."""
    while True:
        with suppress(psycopg.OperationalError):
            return psycopg.connect(server.url(), autocommit=True)
        time.sleep(0.01)


def kill_a_backend(server: PostgresServer, random: Random) -> None:
    """The server ends all others and starts anew by itself, as its memory may be damaged."""
    with suppress(psycopg.OperationalError, psutil.NoSuchProcess):
        with administrator(server) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'sirdar'"
            ).fetchall()
        if rows:
            psutil.Process(random.choice(rows)[0]).send_signal(signal.SIGKILL)


def end_all_backends(server: PostgresServer, random: Random) -> None:
    with administrator(server) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sirdar'"
        )


def kill_the_server(server: PostgresServer, random: Random) -> None:
    server.kill()
    time.sleep(random.uniform(0, 0.3))
    server.start()


def restart_the_server(server: PostgresServer, random: Random) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize(
    "harm",
    [kill_a_backend, end_all_backends, kill_the_server, restart_the_server],
    ids=lambda harm: harm.__name__,
)
def test_the_database_is_harmed_in_the_middle_of_writes(
    server: PostgresServer, harm: Callable[[PostgresServer, Random], None]
) -> None:
    random = Random(harm.__name__)
    with server.database() as url:
        stores = [
            PostgresStore(Address(url), Log(), max_waiting_bytes=2**24) for _ in range(_WRITERS)
        ]
        collection = stores[0].create_collection(definition("books")).result()
        writers = [Writer(f"w{at}", store, collection) for at, store in enumerate(stores)]
        for writer in writers:
            writer.start()
        for _ in range(_KILLS):
            before = [len(writer.acknowledged) for writer in writers]
            # The next harm comes when all write again.
            while any(
                len(writer.acknowledged) <= had for writer, had in zip(writers, before, strict=True)
            ):
                assert all(writer.is_alive() for writer in writers)
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.1))
            harm(server, random)
        for writer in writers:
            writer.stop.set()
            writer.join()
            assert not writer.faults
        check(stores[0], collection, writers)
        for store in stores:
            store.close()


def test_a_database_that_is_away_is_said_to_be_and_found_again(server: PostgresServer) -> None:
    with server.database() as url:
        address = Address(url)
        store = PostgresStore(address, Log(), max_waiting_bytes=2**24)
        collection = store.create_collection(definition("books")).result()
        until(lambda: up(address) == 1)
        failed = failures()
        server.stop()
        until(lambda: up(address) == 0)
        with pytest.raises(Unavailable, match="reached"):
            store.write_documents(collection.generation, [document("refused")]).result()
        assert failures() > failed
        server.start()
        until(lambda: up(address) == 1)
        store.write_documents(collection.generation, [document("d")]).result()
        ids = ["refused", "d"]
        assert [item.id for item in store.document_states(collection.generation, ids)] == ["d"]
        store.close()


def up(address: Address) -> float | None:
    return REGISTRY.get_sample_value("sirdar_retriever_store_up", {"store": str(address)})


def failures() -> float:
    labels = {"reason": "STORE_UNREACHABLE"}
    return REGISTRY.get_sample_value("sirdar_retriever_store_failures_total", labels) or 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check(store: PostgresStore, collection: Collection, writers: list[Writer]) -> None:
    acknowledged = {key: item for writer in writers for key, item in writer.acknowledged.items()}
    refused = {key for writer in writers for key in writer.refused}
    asked = [*acknowledged, *refused]
    there = {item.id for item in store.document_states(collection.generation, asked)}
    assert there == set(acknowledged)
    positions = sorted((item.position.shard, item.position.seq) for item in acknowledged.values())
    committed = store.committed_seqs(collection.generation)
    assert positions == [
        (shard, seq) for shard, last in enumerate(committed) for seq in range(1, last + 1)
    ]
    for shard, last in enumerate(committed):
        read = [item.position.seq for item in store.changes(collection.generation, shard, 0)]
        assert read == list(range(1, last + 1))


async def test_retrievers_are_killed_in_the_middle_of_writes(
    tmp_path: Path, postgres_url: str
) -> None:
    """In turn, and the database never: what each acknowledged is shown by both afterwards."""
    settings: dict[str, object] = {"store": postgres_url, "seal-vectors": 32}
    names = ("one", "two")
    processes = [RetrieverProcess(tmp_path / name, tmp_path, settings) for name in names]
    acknowledged: dict[str, int] = {}
    gone = asyncio.Event()

    async def writing(stub: Stub, name: str) -> None:
        number = 0
        while True:
            number += 1
            key = f"{name}-{number % 40}"
            with suppress(grpc.aio.AioRpcError):
                (receipt,) = await write(stub, single(key, f"text {number} of {name}"))
                acknowledged[key] = max(receipt.version, acknowledged.get(key, 0))
            if gone.is_set():
                return

    try:
        stubs = [await process.start() for process in processes]
        await create(stubs[0])
        for turn in range(2):
            gone.clear()
            running = [
                asyncio.create_task(writing(stub, name))
                for stub, name in zip(stubs, names, strict=True)
            ]
            await asyncio.sleep(0.5)
            await processes[turn % 2].kill()
            gone.set()
            await asyncio.gather(*running)
            stubs[turn % 2] = await processes[turn % 2].start()
        shown = await everything(stubs[0])
        assert await everything(stubs[1]) == shown
        assert acknowledged
        # A write that was committed and whose answer was lost may have made a later version.
        assert {key for key, version in acknowledged.items() if shown[key][0] < version} == set()
        for process in processes:
            process.check_log()
    finally:
        for process in processes:
            await process.close()
