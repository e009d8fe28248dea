"""`sirdar cluster`: what is told of a cluster, and a retriever taken out without a gap."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.client import Document
from tests.rpc.moving_cluster import GROUPS, SHARDS, Cluster, moving_cluster, until
from tests.rpc.terminal_command import Ended, in_a_process

ALL = len(GROUPS) * SHARDS


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str) -> AsyncIterator[Cluster]:
    async with moving_cluster(tmp_path, postgres_url) as running:
        yield running


async def sirdar(address: str, *arguments: str) -> Ended:
    process = in_a_process(address, "cluster", *arguments, **os.environ | {"COLUMNS": "100"})
    out, err = await asyncio.to_thread(process.communicate)
    return Ended(process.returncode, out.decode(), err.decode())


async def fill(cluster: Cluster) -> None:
    for group in GROUPS:
        await cluster.client.create_collection(group.collection)
        async for outcome in cluster.client.index(group.collection, [Document("d", "text")]):
            assert outcome.ok
    await cluster.placed("r0", "r1")


async def test_one_is_drained_ended_and_removed(cluster: Cluster) -> None:
    await fill(cluster)
    await cluster.start("r2")
    await cluster.placed("r0", "r1", "r2")
    shown = await sirdar(cluster.address, "status")
    assert (shown.code, shown.err) == (0, "")
    assert f"{ALL} of {ALL} shards are on 2 retrievers" in shown.out

    drained = await sirdar(cluster.address, "drain", "r0", "--timeout", "60")
    assert (drained.code, drained.err) == (0, "")
    assert "r0: 0 shards to hand over" in drained.out
    assert "sirdar cluster remove r0" in drained.out
    await cluster.placed("r1", "r2")
    assert REGISTRY.get_sample_value("sirdar_retriever_draining_members") == 1
    told = await sirdar(cluster.address, "status", "--json")
    members = {item["name"]: item for item in json.loads(told.out)["members"]}
    assert members["r0"]["draining"]
    assert members["r0"]["shards_ready"] == 0
    assert members["r1"]["shards_ready"] == members["r1"]["shards_wanted"] == ALL

    # It is no member again by itself.
    await cluster.stop("r0")
    await cluster.start("r0")
    await cluster.placed("r1", "r2")
    await cluster.stop("r0")
    removed = await sirdar(cluster.address, "remove", "r0")
    assert (removed.code, removed.out) == (0, "removed r0\n")
    assert cluster.store.members().active == ("r1", "r2")


async def test_what_is_not_safe_is_refused_with_the_way_out(cluster: Cluster) -> None:
    await fill(cluster)
    refusals = {
        ("drain", "r0"): "add a retriever first, or force it",
        ("remove", "r0"): "drain it first",
        ("drain", "r9"): "no member 'r9'; the members are r0, r1",
        ("undrain", ""): "name",
    }
    for arguments, fix in refusals.items():
        ended = await sirdar(cluster.address, *arguments)
        assert ended.code == 1
        assert fix in ended.err
    assert cluster.store.members().active == ("r0", "r1")


async def test_a_drain_that_takes_too_long_says_what_is_left_and_is_taken_back(
    cluster: Cluster,
) -> None:
    await fill(cluster)
    # One that has joined and never comes.
    cluster.store.register("r2", 2).result()
    waited = await sirdar(cluster.address, "drain", "r0", "--timeout", "0.1")
    assert waited.code == 1
    assert f"{ALL} shards of r0 are not on enough others yet" in waited.err
    back = await sirdar(cluster.address, "undrain", "r0")
    assert back.code == 0
    assert "r0" in cluster.store.members().active
    forced = await sirdar(cluster.address, "remove", "r2", "--force")
    assert forced.code == 0
    await cluster.placed("r0", "r1")


async def test_shards_on_too_few_are_told(cluster: Cluster) -> None:
    await fill(cluster)
    assert (await sirdar(cluster.address, "drain", "r0", "--force", "--timeout", "60")).code == 0

    async def one_left() -> bool:
        return (await asyncio.to_thread(cluster.ready)).get("r0", 0) == 0

    await until(one_left)
    ended = await sirdar(cluster.address, "status")
    assert ended.code == 1
    assert f"0 of {ALL} shards are on 2 retrievers" in ended.out
    assert "1 have shards, fewer than 2: add a retriever" in ended.out


async def test_one_alone_is_no_cluster(tmp_path: Path) -> None:
    settings = RetrieverSettings(data_folder=tmp_path, port=0, metrics_port=None)
    async with serve("retriever", settings, wire) as server:
        ended = await sirdar(f"127.0.0.1:{server.port}", "status")
    assert ended.code == 1
    assert "shares its store with none" in ended.err
