"""Retrievers that share the shards of a store: each has those that placement gives it."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cluster.placement import Placement, ShardGroup
from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.runtime.server import TierServer, serve
from services.runtime.settings import load_settings
from sirdar.client import AsyncClient, Consistency, Document
from sirdar.errors import InvalidArgument, Unavailable
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.failing_tiers import gateway_over, serving_embedder, until
from tests.rpc.retriever_calls import (
    Stub,
    create,
    document_write,
    retriever,
    search_request,
    vector,
    write,
)

SHARDS = 8
NAMES = ("one", "two", "three")
DOCUMENTS = [f"d{at}" for at in range(40)]


@asynccontextmanager
async def sharing(
    folder: Path, names: Sequence[str] = NAMES, replication: int = 2
) -> AsyncIterator[dict[str, Stub]]:
    """The placed retrievers, which follow the store of the one in `writer`."""
    async with AsyncExitStack() as stack:
        given: dict[str, object] = {"follow": folder / "writer", "replication": replication}
        yield {
            name: await stack.enter_async_context(
                retriever(folder / name, name=name, retrievers=tuple(names), **given)
            )
            for name in names
        }


async def fill(writer: Stub) -> None:
    await create(writer, shards=SHARDS)
    await write(writer, *(document_write(item) for item in DOCUMENTS))


async def held(stub: Stub) -> set[int]:
    return {shard.shard for shard in (await stub.ListShards(pb.ListShardsRequest())).shards}


def strong(**changed: object) -> pb.SearchPassagesRequest:
    every: dict[str, object] = {"exact": True, "candidates": 100}
    return search_request(vector(1), consistency=common_pb2.CONSISTENCY_STRONG, **(every | changed))


async def seen(stubs: dict[str, Stub]) -> Counter[str]:
    """How many of them find each document."""
    counts: Counter[str] = Counter()
    for stub in stubs.values():
        (result,) = (await stub.SearchPassages(strong())).results
        counts.update(item.document_id for item in result.passages)
    return counts


async def test_each_has_what_placement_gives_it(tmp_path: Path) -> None:
    group = ShardGroup("default", "books", 1)
    placement = Placement(NAMES, 2)
    async with retriever(tmp_path / "writer") as writer:
        await fill(writer)
        async with sharing(tmp_path) as stubs:
            placed = {name: await held(stub) for name, stub in stubs.items()}
    assert placed == {name: placement.owned(name, group, SHARDS) for name in NAMES}
    counts = Counter(shard for shards in placed.values() for shard in shards)
    assert counts == dict.fromkeys(range(SHARDS), 2)


async def test_each_answers_for_what_it_has_and_says_what_it_lacks(tmp_path: Path) -> None:
    async with retriever(tmp_path / "writer") as writer:
        await fill(writer)
        whole = await writer.SearchPassages(strong())
        shard_of = {item.document_id: item.shard for item in whole.results[0].passages}
        async with sharing(tmp_path) as stubs:
            for stub in stubs.values():
                here = await held(stub)
                part = await stub.SearchPassages(strong())
                assert list(part.coverage.missing_shards) == sorted(set(range(SHARDS)) - here)
                assert part.coverage.shards_asked == SHARDS
                assert part.coverage.shards_answered == len(here)
                assert len(part.applied_seqs) == len(here)
                found = {item.document_id for item in part.results[0].passages}
                assert found == {name for name, shard in shard_of.items() if shard in here}
                # Of the store's own, each knows everything.
                position = await stub.GetPosition(pb.GetPositionRequest(collection="books"))
                assert sum(position.committed_seqs) == len(DOCUMENTS)
                assert sum(position.applied_seqs) == len(found)


async def test_what_is_written_and_made_later_is_placed_too(tmp_path: Path) -> None:
    async with retriever(tmp_path / "writer") as writer, sharing(tmp_path) as stubs:
        await fill(writer)
        await write(writer, document_write("later"))
        assert await seen(stubs) == dict.fromkeys([*DOCUMENTS, "later"], 2)


async def test_one_more_takes_shards_over_and_the_others_let_go_of_them(tmp_path: Path) -> None:
    more = (*NAMES, "four")
    async with retriever(tmp_path / "writer") as writer:
        await fill(writer)
        async with sharing(tmp_path) as stubs:
            before = {name: await held(stub) for name, stub in stubs.items()}
        async with sharing(tmp_path, more) as stubs:
            after = {name: await held(stub) for name, stub in stubs.items()}
            assert await seen(stubs) == dict.fromkeys(DOCUMENTS, 2)
        assert all(after[name] <= before[name] for name in NAMES)
        assert sum(len(before[name] - after[name]) for name in NAMES) == len(after["four"]) > 0
        for name in NAMES:
            (generation,) = (tmp_path / name / "segments").iterdir()
            left = {int(path.name) for path in generation.iterdir()}
            assert left <= after[name]


@dataclass(frozen=True)
class Cluster:
    client: AsyncClient
    servers: dict[str, TierServer]


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A gateway over a writer, which has everything, and the placed ones."""
    given: dict[str, object] = {"port": 0, "metrics_port": None, "default_shards": SHARDS}
    async with AsyncExitStack() as stack:
        servers: dict[str, TierServer] = {}
        for name in ("writer", *NAMES):
            placed: dict[str, object] = {}
            if name != "writer":
                placed = {"name": name, "retrievers": NAMES, "replication": 2}
                placed["follow"] = folder / "writer"
            settings = RetrieverSettings.model_validate(
                {**given, "data_folder": folder / name, **placed}
            )
            servers[name] = await stack.enter_async_context(serve("retriever", settings, wire))
        embedder = await stack.enter_async_context(serving_embedder())
        address = await stack.enter_async_context(
            gateway_over(
                retriever_addresses=[f"127.0.0.1:{item.port}" for item in servers.values()],
                embedder_address=embedder,
                rerank_enabled=False,
            )
        )
        yield Cluster(await stack.enter_async_context(AsyncClient(address)), servers)


async def found(client: AsyncClient) -> set[str]:
    answer = await client.search(
        "notes", "text", top_k=100, consistency=Consistency.STRONG, require_complete=True
    )
    assert answer.coverage.shards_asked == SHARDS
    return {item.document_id for item in answer}


async def test_a_search_finds_what_there_is_while_any_of_two_goes_away(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        client = running.client
        await client.create_collection("notes")
        items = [Document(id=name, text=f"text of {name}") for name in DOCUMENTS]
        async for outcome in client.index("notes", items):
            assert outcome.ok
        assert await found(client) == set(DOCUMENTS)
        await running.servers["writer"].stop()
        for _ in range(10):
            assert await found(client) == set(DOCUMENTS)
        await running.servers["one"].stop()
        await until(lambda: _whole(client))
        for _ in range(10):
            assert await found(client) == set(DOCUMENTS)
        await running.servers["two"].stop()
        await until(lambda: _partial(client))


async def _whole(client: AsyncClient) -> bool:
    return (await client.search("notes", "text")).coverage.complete


async def _partial(client: AsyncClient) -> bool:
    """Whether an answer says that it is one, and none is given where it must not be."""
    answer = await client.search("notes", "text")
    with pytest.raises(Unavailable):
        await client.search("notes", "text", require_complete=True)
    return 0 < answer.coverage.shards_answered < SHARDS


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--replication", "3"], "replication is 3, and there are 2 retrievers"),
        (["--name", "c"], "name is 'c'"),
        (["--retrievers", "a,b,a"], r"retrievers\[2\].name is 'a'"),
        (["--default-shards", "0"], "default_shards"),
        (["--default-shards", "10000"], "default_shards.*64"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    arguments: list[str], wrong: str, tmp_path: Path
) -> None:
    good = ["--follow", str(tmp_path / "w"), "--name", "a", "--retrievers", "a,b"]
    assert load_settings(RetrieverSettings, good).replication == 1
    with pytest.raises(InvalidArgument, match=wrong):
        load_settings(RetrieverSettings, [*good, *arguments])


def test_retrievers_without_a_store_to_share_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"retrievers.*store"):
        load_settings(RetrieverSettings, ["--name", "a", "--retrievers", "a,b"])
