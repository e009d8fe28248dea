"""Shards move as retrievers come and go, under searches and writes that never stop."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.cluster.placement import Placement, ShardGroup
from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.runtime.server import serve
from services.stack.ports import free_ports
from sirdar.client import AsyncClient, Consistency, Document
from tests.retriever_data import Log
from tests.rpc.failing_tiers import gateway_over, serving_embedder

SHARDS = 8
GROUPS = [ShardGroup("default", name, 1) for name in ("notes", "more")]
PLACES = ("r0", "r1", "r2", "r3")


@dataclass
class Cluster:
    """A gateway that knows of four retrievers, of which some run."""

    folder: Path
    url: str
    store: PostgresStore
    ports: Mapping[str, int]
    client: AsyncClient = field(init=False)
    running: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, name: str, **changed: object) -> None:
        given: dict[str, object] = {
            "port": self.ports[name],
            "metrics_port": None,
            "data_folder": self.folder / name,
            "store": self.url,
            "store_connections": 4,
            "name": name,
            "replication": 2,
            "default_shards": SHARDS,
            "farewell_seconds": 2.0,
        }
        self.running[name] = stack = AsyncExitStack()
        settings = RetrieverSettings.model_validate(given | changed)
        await stack.enter_async_context(serve("retriever", settings, wire))

    async def start_process(self, name: str) -> Process:
        """One of its own, to be killed."""
        options = {
            "port": self.ports[name],
            "metrics-port": "none",
            "data-folder": self.folder / name,
            "store": self.url,
            "name": name,
            "replication": 2,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.retriever"),
            *(f"--{key}={value}" for key, value in options.items()),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )

    async def stop(self, name: str) -> None:
        await self.running.pop(name).aclose()

    def folders(self, name: str) -> int:
        """Shards that a retriever has files of."""
        return len(list((self.folder / name / "segments").glob("*/*")))

    def ready(self) -> dict[str, int]:
        """How many shards each member says to be ready with."""
        counts: dict[str, int] = {}
        for item in self.store.replicas():
            counts[item.member] = counts.get(item.member, 0) + item.ready
        return counts

    async def placed(self, *names: str) -> None:
        """Until these have what is theirs, and no others have anything."""
        placement = Placement(names, 2)
        wanted = {
            name: sum(len(placement.owned(name, group, SHARDS)) for group in GROUPS)
            for name in names
        }

        async def done() -> bool:
            there = await asyncio.to_thread(self.ready)
            files = {name: self.folders(name) for name in self.running}
            return {name: count for name, count in there.items() if count} == wanted and all(
                count <= wanted.get(name, 0) for name, count in files.items()
            )

        await until(done)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str) -> AsyncIterator[Cluster]:
    ports = dict(zip(PLACES, free_ports(len(PLACES)), strict=True))
    async with AsyncExitStack() as stack:
        embedder = await stack.enter_async_context(serving_embedder())
        store = PostgresStore(Address(postgres_url), Log(), max_waiting_bytes=2**24, connections=2)
        stack.callback(store.close)
        running = Cluster(tmp_path, postgres_url, store, ports)
        for name in PLACES[:2]:
            await running.start(name)
        address = await stack.enter_async_context(
            gateway_over(
                retriever_addresses=[f"127.0.0.1:{port}" for port in ports.values()],
                embedder_address=embedder,
                rerank_enabled=False,
            )
        )
        running.client = await stack.enter_async_context(AsyncClient(address))
        yield running
        for name in list(running.running):
            await running.stop(name)


NOTES = [f"d{at}" for at in range(40)]
WINDOW = 30


class Load:
    """Searches and writes that never stop, each answer checked: the first fault ends them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self.searches = self.writes = 0

    async def found(self, collection: str) -> set[str]:
        self.searches += 1
        answer = await self._client.search(
            collection,
            "text",
            top_k=100,
            consistency=Consistency.STRONG,
            require_complete=True,
        )
        assert answer.coverage.shards_answered == SHARDS
        return {item.document_id for item in answer}

    async def index(self, collection: str, *ids: str) -> None:
        items = [Document(id=name, text=f"text of {name}") for name in ids]
        async for outcome in self._client.index(collection, items):
            assert outcome.ok, outcome
            self.writes += 1

    async def search(self) -> None:
        """What does not change is always found, whole."""
        while not self._stop.is_set():
            assert await self.found("notes") == set(NOTES)

    async def write(self) -> None:
        """What was just written is found, and what was just deleted is not."""
        at = 0
        while not self._stop.is_set():
            await self.index("more", f"w{at}")
            if at >= WINDOW:
                await self._client.delete_documents("more", [f"w{at - WINDOW}"])
            there = {f"w{item}" for item in range(max(0, at - WINDOW + 1), at + 1)}
            assert await self.found("more") == there
            at += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.search())
            tasks.create_task(self.write())
            yield
            self._stop.set()


def moved() -> float:
    return (
        REGISTRY.get_sample_value("sirdar_retriever_shards_moved_total", {"direction": "in"}) or 0
    )


async def test_two_become_four_and_two_again_under_load(cluster: Cluster) -> None:
    load = Load(cluster.client)
    for name in ("notes", "more"):
        await cluster.client.create_collection(name)
    await load.index("notes", *NOTES)
    await cluster.placed("r0", "r1")
    async with load.running():
        before = moved()
        await asyncio.gather(cluster.start("r2"), cluster.start("r3"))
        await cluster.placed(*PLACES)
        minimum = len(GROUPS) * SHARDS * 2 / 2
        assert (moved() - before) / minimum <= 1.2
        for name in ("r0", "r3"):
            cluster.store.drain(name, force=False).result()
        await cluster.placed("r1", "r2")
        for name in ("r0", "r3"):
            await cluster.stop(name)
            cluster.store.remove(name, force=False).result()
        await asyncio.sleep(0.5)
    assert await load.found("notes") == set(NOTES)
    assert load.searches > 50


async def test_a_new_owner_is_killed_while_it_takes_over(cluster: Cluster) -> None:
    """The old owners keep what it was to have, also one that starts anew meanwhile."""
    load = Load(cluster.client)
    for name in ("notes", "more"):
        await cluster.client.create_collection(name)
    await load.index("notes", *NOTES)
    await cluster.placed("r0", "r1")

    async def all_ready(name: str, shards: int) -> bool:
        return (await asyncio.to_thread(cluster.ready)).get(name, 0) >= shards

    async with load.running():
        # It has joined and opened nothing.
        cluster.store.register("r2", 2).result()
        await asyncio.sleep(0.5)
        await cluster.stop("r0")
        await cluster.start("r0")
        await until(lambda: all_ready("r0", len(GROUPS) * SHARDS))
        process = await cluster.start_process("r2")
        try:
            await until(lambda: all_ready("r2", 1))
        finally:
            process.kill()
            await process.wait()
        await asyncio.sleep(3.0)
        process = await cluster.start_process("r2")
        try:
            await cluster.placed("r0", "r1", "r2")
        finally:
            process.kill()
            await process.wait()
        await asyncio.sleep(0.5)
    assert await load.found("notes") == set(NOTES)
