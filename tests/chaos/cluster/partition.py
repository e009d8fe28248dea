"""A cluster whose network is cut in two places, one after the other: what callers see meanwhile.

A retriever is cut from the gateway, then from the store. Another retriever has all its shards.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from sirdar.client import AsyncClient
from sirdar.errors import from_rpc_error
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.cluster.cluster import SHARDS, Cluster, configured, started, with_settings
from tests.chaos.cluster.contents import similarities
from tests.chaos.cluster.histories import Histories
from tests.chaos.cluster.hosts import STORE, Host, Wire, hosts
from tests.chaos.cluster.links import Proxy
from tests.chaos.cluster.members import Member, members
from tests.chaos.cluster.reader import Reader
from tests.chaos.cluster.writer import COLLECTION, Writer
from tests.postgres_server import postgres_server
from tests.rpc.retriever_calls import connect

_DOCUMENTS = 60
_CUT_SECONDS = 8.0
_NAMES = ("retriever-0", "retriever-1", "embedder-0", "gateway-0")


class Link(Protocol):
    def cut(self) -> None: ...
    def heal(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Partitioned:
    """The cluster, and the links of its first retriever to the gateway and to the store."""

    cluster: Cluster
    gateway: Link
    store: Link


async def observe(it: Partitioned) -> dict[str, dict[str, Any]]:
    """What was served and flagged, and the seconds until all was whole again, by what was cut."""
    gateway = it.cluster.members["gateway-0"].address
    async with AsyncClient(gateway) as client:
        await client.create_collection(COLLECTION, shards=SHARDS)
    near = await similarities(it.cluster.members["embedder-0"].address)
    histories = Histories(_DOCUMENTS, near)
    writer = Writer(gateway, histories, range(_DOCUMENTS), seed=1)
    writing = asyncio.create_task(writer.run())
    try:
        while histories.acknowledged < _DOCUMENTS // 2:
            await asyncio.sleep(0.1)
            assert not writing.done(), writing.result()
        await it.cluster.whole()
        seen = {
            "retriever_from_gateway": await _cut(it, it.gateway, histories, writer),
            "retriever_from_store": await _cut(it, it.store, histories, writer),
        }
        writer.stop.set()
        await writing
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    async with AsyncClient(gateway) as client:
        stored = [item async for item in client.list_documents(COLLECTION)]
    seen["afterwards"] = {"lost": histories.lost(stored), "faults": it.cluster.processes.faults}
    return seen


async def _cut(it: Partitioned, link: Link, histories: Histories, writer: Writer) -> dict[str, Any]:
    gateway = it.cluster.members["gateway-0"].address
    reader = Reader([gateway], histories, seed=2)
    reading = asyncio.create_task(reader.run())
    await asyncio.sleep(1.0)
    link.cut()
    began, written = time.monotonic(), writer.acknowledged
    until_written: float | None = None
    while time.monotonic() - began < _CUT_SECONDS:
        await asyncio.sleep(0.05)
        if until_written is None and writer.acknowledged > written:
            until_written = round(time.monotonic() - began, 2)
    alone = await _asked_alone(it.cluster.members["retriever-0"])
    link.heal()
    until_whole = await it.cluster.whole()
    reader.stop.set()
    await reading
    await reader.read_all()
    await reader.close()
    both = (reader.answers, reader.strong)
    return {
        "reads": sum(item.reads for item in both),
        "answered": sum(item.answered for item in both),
        "partial": sum(item.partial for item in both),
        "retries": sum(item.retries for item in both),
        "degraded": dict(sum((item.degraded for item in both), start=type(both[0].degraded)())),
        "failed": dict(sum((item.failed for item in both), start=type(both[0].failed)())),
        "wrong": [fault for item in both for fault in item.wrong],
        "slowest_read_seconds": round(max(item.slowest_seconds for item in both), 2),
        "writes_meanwhile": writer.acknowledged - written,
        "seconds_until_a_write": until_written,
        "the_retriever_alone": alone,
        "seconds_until_whole": round(until_whole, 2),
    }


async def _asked_alone(retriever: Member) -> str:
    """What the retriever that was cut off says to who must see all that is committed."""
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(retriever.address, options) as channel:
        stub = connect(channel)
        request = pb.RetrieverServiceListDocumentsRequest(collection=COLLECTION)
        try:
            await stub.ListDocuments(request, timeout=5)
        except grpc.aio.AioRpcError as failed:
            error = from_rpc_error(failed)
            return f"{type(error).__name__} {error.reason}"
    return "answered"


@asynccontextmanager
async def behind_proxies(folder: Path) -> AsyncIterator[Partitioned]:
    """All on this host; the two links are proxies that stop to forward."""
    with postgres_server() as server, server.database() as url:
        parts = members(_NAMES)
        first = parts["retriever-0"]
        async with (
            Proxy(first.host, first.port).serving() as gateway,
            Proxy("127.0.0.1", server.port).serving() as store,
        ):
            parts = configured(parts, folder, url, replication=2)
            parts["retriever-0"] = with_settings(
                parts["retriever-0"], STORE=url.replace(f":{server.port}/", f":{store.port}/")
            )
            parts["gateway-0"] = with_settings(
                parts["gateway-0"],
                RETRIEVER_ADDRESSES=json.dumps([gateway.address, parts["retriever-1"].address]),
            )
            async with started(folder, parts) as cluster:
                yield Partitioned(cluster, gateway, store)


@asynccontextmanager
async def between_hosts(folder: Path) -> AsyncIterator[Partitioned]:
    """The gateway and the embedder on one host, a retriever on another, and the rest here."""
    async with AsyncExitStack() as stack:
        front, back = stack.enter_context(hosts(2))
        server = stack.enter_context(postgres_server())
        url = stack.enter_context(server.database())
        # PostgreSQL listens on loopback alone.
        store = await stack.enter_async_context(Proxy("127.0.0.1", server.port).serving(STORE))
        parts = _placed(members(_NAMES), front, back)
        parts = configured(parts, folder, url, replication=2)
        parts["retriever-0"] = with_settings(
            parts["retriever-0"], STORE=url.replace(f"127.0.0.1:{server.port}", store.address)
        )
        cluster = await stack.enter_async_context(started(folder, parts))
        yield Partitioned(cluster, Wire(front.address, back.address), Wire(back.address, STORE))


def _placed(parts: dict[str, Member], front: Host, back: Host) -> dict[str, Member]:
    return {
        "retriever-0": back.holding(parts["retriever-0"]),
        "retriever-1": dataclasses.replace(parts["retriever-1"], host=front.router),
        "embedder-0": front.holding(parts["embedder-0"]),
        "gateway-0": front.holding(parts["gateway-0"]),
    }


async def main(folder: Path) -> None:
    async with between_hosts(folder) as it:
        print(json.dumps(await observe(it)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
