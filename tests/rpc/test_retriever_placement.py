"""Retrievers that share the shards of a store: each has those that placement gives it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from socket import gethostname

import pytest

from services.cluster.placement import Placement, ShardGroup
from services.retriever.settings import RetrieverSettings
from services.retriever.store.placement import shard_of
from services.runtime.settings import load_settings
from sirdar.errors import FailedPrecondition, InvalidArgument
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
    create,
    document_write,
    retriever,
    search_request,
    vector,
    write,
)
from tests.rpc.test_retriever_recall import until
from tests.snapped_shards import restored

SHARDS = 8
NAMES = ("one", "two", "three")
DOCUMENTS = [f"d{at}" for at in range(40)]


@asynccontextmanager
async def sharing(
    folder: Path, url: str, names: Sequence[str] = NAMES, replication: int = 2
) -> AsyncIterator[dict[str, Stub]]:
    given: dict[str, object] = {
        "store": url, "store_connections": 4, "replication": replication
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(retriever(folder / name, name=name, **given))
            for name in names
        }


async def fill(writer: Stub) -> None:
    await create(writer, shards=SHARDS)
    await write(writer, *(document_write(item) for item in DOCUMENTS))


async def held(stub: Stub) -> set[int]:
    return {shard.shard for shard in (await stub.ListShards(pb.ListShardsRequest())).shards}


def strong(**changed: object) -> pb.SearchPassagesRequest:
    every: dict[str, object] = {"exact": True, "candidates": 1000}
    return search_request(vector(1), consistency=common_pb2.CONSISTENCY_STRONG, **(every | changed))


async def seen(stubs: dict[str, Stub]) -> Counter[str]:
    """How many of them find each document."""
    counts: Counter[str] = Counter()
    for stub in stubs.values():
        (result,) = (await stub.SearchPassages(strong())).results
        counts.update(item.document_id for item in result.passages)
    return counts


async def test_each_has_what_placement_gives_it(tmp_path: Path, postgres_url: str) -> None:
    group = ShardGroup("default", "books", 1)
    placement = Placement(NAMES, 2)
    async with sharing(tmp_path, postgres_url) as stubs:
        await fill(stubs["two"])
        await seen(stubs)
        placed = {name: await held(stub) for name, stub in stubs.items()}
    assert placed == {name: placement.owned(name, group, SHARDS) for name in NAMES}
    counts = Counter(shard for shards in placed.values() for shard in shards)
    assert counts == dict.fromkeys(range(SHARDS), 2)


async def test_each_answers_for_what_it_has_and_says_what_it_lacks(
    tmp_path: Path, postgres_url: str
) -> None:
    async with sharing(tmp_path, postgres_url) as stubs:
        await fill(stubs["one"])
        for stub in stubs.values():
            part = await stub.SearchPassages(strong())
            here = await held(stub)
            assert list(part.coverage.missing_shards) == sorted(set(range(SHARDS)) - here)
            assert part.coverage.shards_asked == SHARDS
            assert part.coverage.shards_answered == len(here) < SHARDS
            assert len(part.applied_seqs) == len(here)
            found = {item.document_id for item in part.results[0].passages}
            assert found == {name for name in DOCUMENTS if shard_of(name, SHARDS) in here}
            # Of the store's own, each knows everything.
            position = await stub.GetPosition(pb.GetPositionRequest(collection="books"))
            assert sum(position.committed_seqs) == len(DOCUMENTS)
            assert sum(position.applied_seqs) == len(found)


async def test_what_is_written_and_made_later_is_placed_too(
    tmp_path: Path, postgres_url: str
) -> None:
    async with sharing(tmp_path, postgres_url) as stubs:
        await fill(stubs["one"])
        await write(stubs["two"], document_write("later"))
        assert await seen(stubs) == dict.fromkeys([*DOCUMENTS, "later"], 2)


async def test_a_shard_that_moves_comes_from_a_snapshot_of_who_had_it(
    tmp_path: Path, postgres_url: str
) -> None:
    snapshots = tmp_path / "snapshots"
    given: dict[str, object] = {
        "store": postgres_url, "store_connections": 4, "replication": 1, "seal_vectors": 32,
        "snapshot_url": snapshots.as_uri(), "farewell_seconds": 0.2,
    }  # fmt: skip
    names = [f"d{at}" for at in range(60 * 4)]
    async with (
        retriever(tmp_path / "one", name="one", **given) as one,
        retriever(tmp_path / "two", name="two", **given) as two,
    ):
        await create(one, shards=4)
        await write(two, *(document_write(name) for name in names))
        for stub in (one, two):
            await until(partial(sealed, stub), all)
            taken = await stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="books"))
            here = await held(stub)
            assert [seq > 0 for seq in taken.covered_seqs] == [at in here for at in range(4)]
        before = restored()
        async with retriever(tmp_path / "five", name="five", **given) as five:
            moved = await held(five)
            assert restored() - before == len(moved) > 0
            assert await seen({"one": one, "two": two, "five": five}) >= Counter(names)
            await five.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
            await until(lambda: manifests(snapshots), lambda found: not found)


async def sealed(stub: Stub) -> list[bool]:
    found = await stub.ListShards(pb.ListShardsRequest())
    return [shard.sealed_segments > 0 for shard in found.shards]


async def manifests(folder: Path) -> list[Path]:
    return await asyncio.to_thread(lambda: list(folder.rglob("manifests/*.json")))


async def test_fewer_retrievers_than_replicas_have_everything_each(
    tmp_path: Path, postgres_url: str
) -> None:
    async with sharing(tmp_path, postgres_url, NAMES[:2], replication=3) as stubs:
        await fill(stubs["one"])
        assert await seen(stubs) == dict.fromkeys(DOCUMENTS, 2)


async def test_another_replication_than_that_of_the_others_is_refused(
    tmp_path: Path, postgres_url: str
) -> None:
    given: dict[str, object] = {"store": postgres_url, "name": "one"}
    async with retriever(tmp_path / "one", **given, replication=2):
        pass
    async with retriever(tmp_path / "one", **given, replication=3):
        with pytest.raises(FailedPrecondition, match=r"replication.* 2 here and 3.*one") as refused:
            async with retriever(tmp_path / "two", store=postgres_url, name="two", replication=2):
                pass
        assert refused.value.reason == "REPLICATION_DIFFERS"
        async with retriever(tmp_path / "two", store=postgres_url, name="two", replication=3):
            pass


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--replication", "0"], "replication"),
        (["--name", "x" * 254], "name"),
        (["--default-shards", "0"], "default_shards"),
        (["--default-shards", "10000"], "default_shards.*64"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: list[str], wrong: str) -> None:
    good = ["--store", "postgresql://localhost/sirdar"]
    assert load_settings(RetrieverSettings, good).name == gethostname()
    with pytest.raises(InvalidArgument, match=wrong):
        load_settings(RetrieverSettings, [*good, *arguments])
