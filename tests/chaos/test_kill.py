"""Each tier killed under load: what a caller sees, and that nothing acknowledged is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.stack.stack import Stack
from sirdar.client import AsyncClient, Client, Document, SearchResults
from sirdar.errors import DeadlineExceeded, SirdarError, Unavailable

WORDS = ("ships", "bread", "ice", "violins", "bees", "trains", "rivers", "coins")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "data") as running:
        yield running


@dataclass
class Load:
    """What callers saw while a tier was gone and came back."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    searches: int = 0
    errors: list[SirdarError] = field(default_factory=list)
    # Without the embedder words are searched alone.
    degraded: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def documents(self) -> AsyncIterator[Document]:
        number = 0
        while not self.stop.is_set():
            word = WORDS[number % len(WORDS)]
            yield Document(id=f"d{number % 500}", text=f"Note {number} is about {word}.")
            number += 1
            await asyncio.sleep(0.002)

    async def index(self, client: AsyncClient) -> None:
        async for outcome in client.index("notes", self.documents()):
            assert outcome.receipt is not None, outcome.error
            # Versions only grow: a write that was sent twice may have counted twice.
            assert outcome.receipt.version > self.acknowledged.get(outcome.document_id, 0)
            self.acknowledged[outcome.document_id] = outcome.receipt.version

    async def search(self, client: AsyncClient) -> None:
        while not self.stop.is_set():
            try:
                answer = await client.search("notes", "who eats honey?", timeout_seconds=5)
                self.searches += 1
                self.degraded += bool(answer.degraded)
            except SirdarError as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)


async def under_load(stack: Stack, tier: str) -> Load:
    """Kills the tier between searches and writes, starts it again, and waits for it to be whole."""
    load = Load()
    async with AsyncClient(stack.address) as client:
        await client.create_collection("notes")
        running = [
            asyncio.create_task(work)
            for work in (load.index(client), load.search(client), load.search(client))
        ]
        await asyncio.sleep(2)
        assert load.acknowledged, "the load did not get going"
        stack.kill(tier)
        await asyncio.sleep(1)
        await asyncio.to_thread(stack.restart, tier)
        before = load.searches, len(load.acknowledged), max(load.acknowledged.values())
        await _until(lambda: load.searches > before[0] + 20, running)
        await asyncio.sleep(1)
        load.stop.set()
        await asyncio.gather(*running)
    return load


async def _until(reached: object, running: list[asyncio.Task[None]]) -> None:
    assert callable(reached)
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, "it did not recover"
        for task in running:
            if task.done():
                task.result()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("tier", ["gateway", "embedder", "retriever"])
async def test_a_killed_tier_loses_nothing_acknowledged(stack: Stack, tier: str) -> None:
    load = await under_load(stack, tier)
    # The caller saw typed errors that pass, and nothing else.
    assert load.errors or load.degraded, "the kill was not noticed"
    assert {type(error) for error in load.errors} <= {Unavailable, DeadlineExceeded}
    with Client(stack.address) as client:
        for identity, version in load.acknowledged.items():
            stored = client.get_document("notes", identity)
            assert stored.receipt.version >= version
        assert client.get_collection("notes").documents == len(load.acknowledged)
        found = client.search("notes", "Note about bees.", top_k=10, exact=True)
        assert all("bees" in result.snippet.text for result in found)
        assert found.coverage.complete


async def test_a_terminated_gateway_hands_its_index_stream_over(stack: Stack) -> None:
    """SIGTERM in the middle of a stream: each document is answered once, and is there."""
    documents = [Document(id=f"d{number}", text=f"Note {number}.") for number in range(3_000)]
    answered: list[str] = []
    async with AsyncClient(stack.address) as client:
        await client.create_collection("notes")
        restart: asyncio.Task[float] | None = None
        async for outcome in client.index("notes", documents):
            assert outcome.ok, outcome.error
            answered.append(outcome.document_id)
            if len(answered) == 500:
                restart = asyncio.create_task(asyncio.to_thread(stack.restart, "gateway"))
        assert restart is not None
        await restart
    assert answered == [document.id for document in documents]
    with Client(stack.address) as client:
        assert client.get_collection("notes").documents == 3_000


async def test_a_killed_reranker_costs_the_reranking_and_nothing_else(stack: Stack) -> None:
    def reasons(found: SearchResults) -> list[str]:
        return [item.reason for item in found.degraded]

    async with AsyncClient(stack.address) as client:
        await client.create_collection("notes")
        documents = [Document(id=word, text=f"A note about {word}.") for word in WORDS]
        assert all([outcome.ok async for outcome in client.index("notes", documents)])
        whole = await client.search("notes", "who makes honey?")
        assert reasons(whole) == []
        stack.kill("reranker")
        for _ in range(10):
            found = await client.search("notes", "who makes honey?")
            assert reasons(found) == ["rerank_skipped"]
            assert [item.retriever_rank for item in found] == list(range(1, len(found) + 1))
            assert all(item.rerank_score is None for item in found)
        await asyncio.to_thread(stack.restart, "reranker")
        deadline = time.monotonic() + 30
        while reasons(found) and time.monotonic() < deadline:
            found = await client.search("notes", "who makes honey?")
        assert reasons(found) == []
        assert [item.document_id for item in found] == [item.document_id for item in whole]
