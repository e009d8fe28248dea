"""Shards move as retrievers come and go, under searches and writes that never stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from sirdar.client import AsyncClient, Consistency, Document
from tests.rpc.moving_cluster import GROUPS, PLACES, SHARDS, Cluster, moving_cluster, until

NOTES = [f"d{at}" for at in range(40)]
WINDOW = 30


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str) -> AsyncIterator[Cluster]:
    async with moving_cluster(tmp_path, postgres_url) as running:
        yield running


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
