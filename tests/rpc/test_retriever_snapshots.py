"""Snapshots as operators ask for them."""

import shutil
from pathlib import Path

import pytest

from sirdar.errors import FailedPrecondition, NotFound
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
    create,
    document_write,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)
from tests.rpc.test_retriever_recall import until

SNAPSHOT = pb.CreateSnapshotRequest(collection="books")


async def sealed(stub: Stub) -> list[pb.ShardStatus]:
    """The shards, when each has a sealed segment and nothing waits to be one."""

    def settled(found: list[pb.ShardStatus]) -> bool:
        return all(shard.sealed_segments == 1 and shard.growing_segments <= 1 for shard in found)

    return await until(lambda: shards(stub), settled)


async def shards(stub: Stub) -> list[pb.ShardStatus]:
    return list((await stub.ListShards(pb.ListShardsRequest())).shards)


async def test_a_retriever_without_its_segments_serves_them_from_a_snapshot(
    tmp_path: Path,
) -> None:
    settings = {"snapshot_url": (tmp_path / "snapshots").as_uri(), "seal_vectors": 32}
    data = tmp_path / "data"
    async with retriever(data, **settings) as stub:
        await create(stub, shards=2)
        await write(stub, *(document_write(f"d{at}") for at in range(200)))
        before = await sealed(stub)
        taken = await stub.CreateSnapshot(SNAPSHOT)
        (manifest,) = (tmp_path / "snapshots").rglob("manifests/*.json")
        assert taken.url == manifest.as_uri()
        assert len(taken.covered_seqs) == 2
        assert taken.bytes == sum(shard.segment_bytes for shard in before) > 0
        answer = await stub.SearchPassages(search_request(vector("d5/one two/0"), exact=True))
    shutil.rmtree(data / "segments")
    async with retriever(data, **settings) as stub:
        # What is covered is there at once; nothing is built.
        after = await shards(stub)
        assert [shard.sealed_segments for shard in after] == [1, 1]
        assert [shard.segment_bytes for shard in after] == [shard.segment_bytes for shard in before]
        again = await stub.SearchPassages(search_request(vector("d5/one two/0"), exact=True))
        assert again.results == answer.results


async def test_snapshots_that_cannot_be_taken(tmp_path: Path) -> None:
    async with retriever(tmp_path / "data") as stub:
        assert isinstance(await refusal(stub.CreateSnapshot(SNAPSHOT)), NotFound)
        await create(stub)
        error = await refusal(stub.CreateSnapshot(SNAPSHOT))
        assert isinstance(error, FailedPrecondition)
        assert "set snapshot_url" in error.message
    with pytest.raises(FailedPrecondition, match="nosuch"):
        async with retriever(tmp_path / "data", snapshot_url="nosuch://bucket"):
            pass


async def test_snapshots_are_taken_at_an_interval(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    settings = {"snapshot_url": folder.as_uri(), "snapshot_interval_seconds": 0.05}
    async with retriever(tmp_path / "data", seal_vectors=32, **settings) as stub:
        await create(stub, shards=1)
        await write(stub, *(document_write(f"d{at}") for at in range(100)))

        async def manifests() -> list[Path]:
            return list(folder.rglob("manifests/*.json"))

        await until(manifests, lambda found: len(found) > 0)
