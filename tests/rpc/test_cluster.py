"""A gateway over retrievers that share a PostgreSQL store and its shards: what callers see."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.runtime.server import TierServer, serve
from sirdar.client import AsyncClient, Consistency, Document
from tests.rpc.failing_tiers import gateway_over, serving_embedder, until

NAMES = ("retriever-0", "retriever-1", "retriever-2", "retriever-3")
SHARDS = 8
DOCUMENTS = [f"d{at}" for at in range(40)]


@dataclass(frozen=True)
class Cluster:
    client: AsyncClient
    servers: dict[str, TierServer]


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str) -> AsyncIterator[Cluster]:
    async with _cluster(tmp_path, postgres_url) as running:
        yield running


@asynccontextmanager
async def _cluster(folder: Path, url: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        servers: dict[str, TierServer] = {}
        for name in NAMES:
            given: dict[str, object] = {
                "port": 0,
                "metrics_port": None,
                "data_folder": folder / name,
                "store": url,
                "store_connections": 4,
                "name": name,
                "replication": 2,
                "default_shards": SHARDS,
            }
            settings = RetrieverSettings.model_validate(given)
            servers[name] = await stack.enter_async_context(serve("retriever", settings, wire))
        embedder = await stack.enter_async_context(serving_embedder())
        address = await stack.enter_async_context(
            gateway_over(
                retriever_addresses=[f"127.0.0.1:{item.port}" for item in servers.values()],
                embedder_address=embedder,
                rerank_enabled=False,
                cache_use="exact",
            )
        )
        yield Cluster(await stack.enter_async_context(AsyncClient(address)), servers)


async def index(client: AsyncClient, *names: str) -> None:
    schema = {"kind": "old" if len(names) > 1 else "new"}
    items = [Document(id=name, text=f"text of {name}", metadata=schema) for name in names]
    async for outcome in client.index("notes", items):
        assert outcome.ok


async def found(client: AsyncClient) -> set[str]:
    answer = await client.search(
        "notes", "text", top_k=100, consistency=Consistency.STRONG, require_complete=True
    )
    assert answer.coverage.shards_asked == SHARDS
    return {item.document_id for item in answer}


async def test_each_write_is_found_whoever_took_it_and_whoever_has_it(cluster: Cluster) -> None:
    client = cluster.client
    await client.create_collection("notes")
    await index(client, *DOCUMENTS)
    assert await found(client) == set(DOCUMENTS)
    for at in range(10):
        await index(client, f"later{at}")
        assert f"later{at}" in await found(client)
    listed = {item.document.id async for item in client.list_documents("notes")}
    assert listed == await found(client)
    await client.delete_documents("notes", ["d0"])
    assert "d0" not in await found(client)


async def test_what_meets_a_filter_is_deleted_from_all_shards(cluster: Cluster) -> None:
    client = cluster.client
    await client.create_collection("notes", schema={"kind": "keyword"})
    await index(client, *DOCUMENTS)
    await index(client, "kept")
    deleted = await client.delete_by_filter("notes", 'kind = "old"')
    assert deleted.documents == len(DOCUMENTS)
    assert await found(client) == {"kept"}


async def test_one_of_two_may_go_and_a_shard_without_any_is_missed(cluster: Cluster) -> None:
    client = cluster.client
    await client.create_collection("notes")
    await index(client, *DOCUMENTS)
    await cluster.servers[NAMES[0]].stop()
    await until(lambda: _complete(client))
    for at in range(10):
        await index(client, f"later{at}")
        assert len(await found(client)) == len(DOCUMENTS) + at + 1
    for name in NAMES[1:3]:
        await cluster.servers[name].stop()
    await until(lambda: _partial(client))


async def _complete(client: AsyncClient) -> bool:
    return (await client.search("notes", "text")).coverage.complete


async def _partial(client: AsyncClient) -> bool:
    coverage = (await client.search("notes", "text")).coverage
    return 0 < coverage.shards_answered < SHARDS and len(coverage.missing_shards) > 0
