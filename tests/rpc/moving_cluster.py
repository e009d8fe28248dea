"""A gateway over retrievers that share a PostgreSQL store, and come and go."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.cluster.placement import Placement, ShardGroup
from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.runtime.server import serve
from services.stack.ports import free_ports
from sirdar.client import AsyncClient
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
    address: str = ""
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


@asynccontextmanager
async def moving_cluster(folder: Path, url: str) -> AsyncIterator[Cluster]:
    """With the first two of four retrievers."""
    ports = dict(zip(PLACES, free_ports(len(PLACES)), strict=True))
    async with AsyncExitStack() as stack:
        embedder = await stack.enter_async_context(serving_embedder())
        store = PostgresStore(Address(url), Log(), max_waiting_bytes=2**24, connections=2)
        stack.callback(store.close)
        running = Cluster(folder, url, store, ports)
        for name in PLACES[:2]:
            await running.start(name)
        running.address = await stack.enter_async_context(
            gateway_over(
                retriever_addresses=[f"127.0.0.1:{port}" for port in ports.values()],
                embedder_address=embedder,
                rerank_enabled=False,
            )
        )
        running.client = await stack.enter_async_context(AsyncClient(running.address))
        yield running
        for name in list(running.running):
            await running.stop(name)
