"""A whole cluster on this machine: who is in it, and when it is whole."""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.cluster.members import Member, Processes, members, metric
from tests.rpc.retriever_calls import connect

SHARDS, MORE_SHARDS = 4, 32
_WHOLE_SECONDS = 120.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each tier; `replication` retrievers have each shard. `later`: so many more
    retrievers are known to the gateways and not started yet."""

    retrievers: int = 2
    replication: int = 2
    gateways: int = 2
    embedders: int = 1
    rerankers: int = 0
    later: int = 0
    # So that what moves is near what is expected.
    more_collections: int = 0

    @property
    def names(self) -> list[str]:
        kinds = {
            "retriever": self.retrievers,
            "embedder": self.embedders,
            "reranker": self.rerankers,
            "gateway": self.gateways,
        }
        return [f"{kind}-{at}" for kind, count in kinds.items() for at in range(count)]

    @property
    def later_names(self) -> list[str]:
        return [f"retriever-{self.retrievers + at}" for at in range(self.later)]


class NotWhole(AssertionError):
    """The cluster does not recover."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Its processes. `members` are by their names, as are `spare`: those that do not run."""

    members: dict[str, Member]
    processes: Processes
    spare: dict[str, Member] = field(default_factory=dict)

    def of(self, kind: str) -> list[Member]:
        return [member for member in self.members.values() if member.kind == kind]

    async def restart(self, name: str) -> None:
        """Starts a member again that has ended."""
        self.processes.start(self.members[name])
        await self.processes.serving(self.members[name])

    async def whole(self) -> float:
        """Waits until every process serves, the gateways hear every retriever and leave none
        alone, and the retrievers show all that was committed by then; the seconds that it took.

        Raises NotWhole.
        """
        started = time.monotonic()
        for member in self.members.values():
            await self.processes.serving(member)
        await _until(self._heard, "the gateways do not hear all retrievers")
        committed = await self._committed()
        await _until(lambda: self._applied(committed), "the retrievers do not catch up")
        await _until(self._closed, "a gateway leaves a tier alone that serves")
        return time.monotonic() - started

    async def _heard(self) -> bool:
        streams = [
            await metric(item, "sirdar_grpc_requests_in_flight", method="WatchShards")
            for item in self.of("retriever")
        ]
        return all(count >= len(self.of("gateway")) for count in streams)

    async def _closed(self) -> bool:
        """Circuits close by calls: somebody must make some."""
        open_ = [
            await metric(item, "sirdar_gateway_tier_circuit_open") for item in self.of("gateway")
        ]
        return not any(open_)

    async def _committed(self) -> dict[tuple[str, int], int]:
        committed: dict[tuple[str, int], int] = {}
        for item in self.of("retriever"):
            for shard in await _shards(item):
                key = shard.collection, shard.shard
                committed[key] = max(committed.get(key, 0), shard.committed_seq)
        return committed

    async def _applied(self, committed: dict[tuple[str, int], int]) -> bool:
        for item in self.of("retriever"):
            for shard in await _shards(item):
                ready = shard.state == pb.SHARD_STATE_READY
                if not ready or shard.applied_seq < committed.get(
                    (shard.collection, shard.shard), 0
                ):
                    return False
        return True


@asynccontextmanager
async def running(folder: Path, store: str, plan: Plan, cache: str = "") -> AsyncIterator[Cluster]:
    """A cluster that serves, over the database at `store` and the Redis at `cache`, if any."""
    names = [*plan.names, *plan.later_names]
    parts = configured(members(names), folder, store, plan.replication)
    if cache:
        parts |= {
            name: with_settings(item, CACHE_URL=cache)
            for name, item in parts.items()
            if item.kind == "gateway"
        }
    spare = {name: parts.pop(name) for name in plan.later_names}
    async with started(folder, parts) as cluster:
        cluster.spare.update(spare)
        yield cluster


@asynccontextmanager
async def started(folder: Path, parts: dict[str, Member]) -> AsyncIterator[Cluster]:
    """The members when all of them serve; their logs are in the folder."""
    processes = Processes(folder)
    try:
        for member in parts.values():
            processes.start(member)
        for member in parts.values():
            await processes.serving(member)
        yield Cluster(parts, processes)
    finally:
        await asyncio.to_thread(processes.kill_all)


def configured(
    parts: dict[str, Member], folder: Path, store: str, replication: int
) -> dict[str, Member]:
    """The members with the settings that make a cluster of them."""
    retrievers = [item for item in parts.values() if item.kind == "retriever"]
    found: dict[str, Member] = {}
    for name, item in parts.items():
        settings: dict[str, str] = {}
        if item.kind == "retriever":
            settings = {
                "DATA_FOLDER": str(folder / name),
                "STORE": store,
                "STORE_CONNECTIONS": "8",
                "NAME": name,
                "REPLICATION": str(replication),
                "DEFAULT_SHARDS": str(SHARDS),
                "SEAL_VECTORS": "16",
            }
        elif item.kind == "gateway":
            settings = {
                "HTTP_PORT": "none",
                "RETRIEVER_ADDRESSES": json.dumps([item.address for item in retrievers]),
                "EMBEDDER_ADDRESS": _all_of("embedder", parts),
            }
            if reranker := _all_of("reranker", parts):
                settings["RERANKER_ADDRESS"] = reranker
        found[name] = with_settings(item, **settings)
    return found


def with_settings(member: Member, **settings: str) -> Member:
    return dataclasses.replace(member, settings={**member.settings, **settings})


def _all_of(kind: str, parts: dict[str, Member]) -> str:
    """What a name with all their addresses is to gRPC."""
    addresses = [item.address for item in parts.values() if item.kind == kind]
    return f"ipv4:///{','.join(addresses)}" if addresses else ""


async def _until(reached: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    deadline = time.monotonic() + _WHOLE_SECONDS
    while not await reached():
        if time.monotonic() > deadline:
            raise NotWhole(otherwise)
        await asyncio.sleep(_POLL_SECONDS)


async def _shards(retriever: Member) -> Sequence[pb.ShardStatus]:
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(retriever.address, options) as channel:
        return (await connect(channel).ListShards(pb.ListShardsRequest(), timeout=30)).shards
