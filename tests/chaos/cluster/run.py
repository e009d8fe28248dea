"""One run: callers write and read while processes are killed, and what that did to them."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sirdar.client import AsyncClient, StoredDocument
from tests.chaos.cluster import scaling
from tests.chaos.cluster.cluster import MORE_SHARDS, SHARDS, Cluster, Plan, running
from tests.chaos.cluster.contents import similarities
from tests.chaos.cluster.histories import Histories
from tests.chaos.cluster.reader import Answers, Reader
from tests.chaos.cluster.writer import COLLECTION, Writer
from tests.postgres_server import PostgresServer, postgres_server
from tests.redis_server import RedisServer

_DOCUMENTS = 120
_READERS, _WRITERS = 4, 2
# Between a recovery and the next harm, and from a harm until what ended is started again.
_PAUSE_SECONDS = (0.3, 1.5)
_AWAY_SECONDS = (0.0, 1.0)
RESTART = "restart "
"""Before the name of a member: it is told to end, and started again when it has drained."""
ADD, REMOVE = "add ", "remove "
"""Before the names of retrievers: they come to the cluster, or go from it."""


@dataclass
class Report:
    """What a run shows. `lost_writes`: acknowledged and not so at the end, deletions that came
    back among them. `read_availability`: of the reads that any replica may answer, the share that
    was answered by all shards, within their deadline and the tries of a client."""

    seed: int
    seconds: float = 0.0
    harms: Counter[str] = field(default_factory=Counter)
    slowest_recovery_seconds: float = 0.0
    moved_shards: int = 0
    acknowledged_writes: int = 0
    refused_writes: int = 0
    reads: int = 0
    read_availability: float = 0.0
    client_retries: int = 0
    partial_answers: int = 0
    failed_reads: Counter[str] = field(default_factory=Counter)
    degraded_answers: Counter[str] = field(default_factory=Counter)
    slowest_read_seconds: float = 0.0
    strong_reads: int = 0
    strong_availability: float = 0.0
    strong_retries: int = 0
    failed_strong_reads: Counter[str] = field(default_factory=Counter)
    wrong_answers: int = 0
    lost_writes: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def json(self) -> str:
        """One line."""
        return json.dumps(vars(self))


class Run:
    """`harms` gives the names of what is harmed next, until there are no more; a member of the
    cluster is killed, or restarted, `database-restart` and `database-kill` are of PostgreSQL,
    `cache` of Redis.
    """

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self._folder = folder
        self._plan = plan
        self._random = random.Random(seed)
        self.report = Report(seed)

    async def run(self, harms: Callable[[], str | None], *, cached: bool = False) -> Report:
        """Raises NotWhole, and AssertionError for what no caller should see."""
        started = time.monotonic()
        with postgres_server() as server, server.database() as url:
            redis = RedisServer(self._folder)
            if cached:
                redis.start()
            try:
                cache = redis.url if cached else ""
                async with running(self._folder, url, self._plan, cache) as cluster:
                    await self._harm_all(cluster, server, redis, harms)
                    self.report.faults += cluster.processes.faults
            finally:
                if cached:
                    redis.kill()
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report

    async def _harm_all(
        self,
        cluster: Cluster,
        server: PostgresServer,
        redis: RedisServer,
        harms: Callable[[], str | None],
    ) -> None:
        gateways = [member.address for member in cluster.of("gateway")]
        async with AsyncClient(gateways[0]) as client:
            await client.create_collection(COLLECTION, shards=SHARDS)
            for at in range(self._plan.more_collections):
                await client.create_collection(f"more{at}", shards=MORE_SHARDS)
        near = await similarities(cluster.of("embedder")[0].address)
        histories = Histories(_DOCUMENTS, near)
        everywhere = f"ipv4:///{','.join(gateways)}"
        writers = [
            Writer(everywhere, histories, range(at, _DOCUMENTS, _WRITERS), self.report.seed + at)
            for at in range(_WRITERS)
        ]
        readers = [Reader(gateways, histories, self.report.seed + at) for at in range(_READERS)]
        everybody: list[Writer | Reader] = [*writers, *readers]
        callers = [asyncio.create_task(caller.run()) for caller in everybody]
        try:
            await self._until_written(histories, callers)
            await self._recovered(cluster, histories, readers, callers)
            while (harm := harms()) is not None:
                await self._harm(harm, cluster, server, redis)
                await self._recovered(cluster, histories, readers, callers)
                await asyncio.sleep(self._random.uniform(*_PAUSE_SECONDS))
            for caller in everybody:
                caller.stop.set()
            await asyncio.gather(*callers)
            await cluster.whole()
            for reader in readers:
                for _ in gateways:
                    await reader.read_all()
            self._conclude(writers, [reader.answers for reader in readers], readers)
            for address in gateways:
                await self._count_lost(histories, address)
        finally:
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            for reader in readers:
                await reader.close()

    async def _until_written(self, histories: Histories, callers: list[asyncio.Task[None]]) -> None:
        """Until there is something to lose."""
        while histories.acknowledged < _DOCUMENTS // 2:
            _raise_failed(callers)
            await asyncio.sleep(0.1)

    async def _harm(
        self, harm: str, cluster: Cluster, server: PostgresServer, redis: RedisServer
    ) -> None:
        self.report.harms[harm] += 1
        away = self._random.uniform(*_AWAY_SECONDS)
        if harm == "database-restart":
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
        elif harm == "database-kill":
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        elif harm == "cache":
            await asyncio.to_thread(redis.kill)
            await asyncio.sleep(away)
            await asyncio.to_thread(redis.start)
        elif harm.startswith(RESTART):
            name = harm.removeprefix(RESTART)
            await asyncio.to_thread(cluster.processes.stop, cluster.members[name])
            await cluster.restart(name)
        elif harm.startswith(ADD):
            await scaling.add(cluster, *harm.removeprefix(ADD).split())
        elif harm.startswith(REMOVE):
            await scaling.remove(cluster, *harm.removeprefix(REMOVE).split())
            # Of those that stayed: what they gave away before, and what they have back.
            self.report.moved_shards = await scaling.moved(cluster)
        else:
            await asyncio.to_thread(cluster.processes.kill, cluster.members[harm])
            await asyncio.sleep(away)
            await cluster.restart(harm)

    async def _recovered(
        self,
        cluster: Cluster,
        histories: Histories,
        readers: list[Reader],
        callers: list[asyncio.Task[None]],
    ) -> None:
        floors = histories.floors()
        seconds = await cluster.whole()
        _raise_failed(callers)
        self.report.slowest_recovery_seconds = round(
            max(seconds, self.report.slowest_recovery_seconds), 1
        )
        for reader in readers:
            reader.settled = floors

    def _conclude(
        self, writers: list[Writer], answers: list[Answers], readers: list[Reader]
    ) -> None:
        report = self.report
        every, strong = _sum(answers), _sum([reader.strong for reader in readers])
        report.acknowledged_writes = sum(writer.acknowledged for writer in writers)
        report.refused_writes = sum(writer.refused for writer in writers)
        report.reads, report.read_availability = every.reads, every.availability
        report.client_retries, report.partial_answers = every.retries, every.partial
        report.failed_reads, report.degraded_answers = every.failed, every.degraded
        report.slowest_read_seconds = round(every.slowest_seconds, 2)
        report.strong_reads, report.strong_availability = strong.reads, strong.availability
        report.strong_retries, report.failed_strong_reads = strong.retries, strong.failed
        report.wrong = every.wrong + strong.wrong
        report.wrong_answers = len(report.wrong)

    async def _count_lost(self, histories: Histories, gateway: str) -> None:
        stored: list[StoredDocument] = []
        async with AsyncClient(gateway) as client:
            stored += [item async for item in client.list_documents(COLLECTION)]
        self.report.lost += histories.lost(stored)
        self.report.lost_writes = len(set(self.report.lost))


def _sum(answers: list[Answers]) -> Answers:
    total = Answers()
    for item in answers:
        total.reads += item.reads
        total.answered += item.answered
        total.retries += item.retries
        total.partial += item.partial
        total.degraded += item.degraded
        total.failed += item.failed
        total.wrong += item.wrong
        total.slowest_seconds = max(total.slowest_seconds, item.slowest_seconds)
    return total


def _raise_failed(callers: list[asyncio.Task[None]]) -> None:
    for task in callers:
        if task.done():
            task.result()
            raise AssertionError(f"{task} ended")
