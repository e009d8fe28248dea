"""Retrievers that come to a cluster, and go."""

import asyncio
import time

from sirdar.client.cluster import Cluster as Shown
from sirdar.client.cluster import ClusterClient
from tests.chaos.cluster.cluster import Cluster, NotWhole
from tests.chaos.cluster.members import metric

_POLL_SECONDS = 0.2
_MOST_SECONDS = 180.0


async def add(cluster: Cluster, *names: str) -> None:
    """Starts retrievers; they have all that they are to have when it returns."""
    for name in names:
        cluster.members[name] = cluster.spare.pop(name)
        cluster.processes.start(cluster.members[name])
    for name in names:
        await cluster.processes.serving(cluster.members[name])
    await _handed_over(cluster, len(cluster.of("retriever")))


async def remove(cluster: Cluster, *names: str) -> None:
    """Drains retrievers, and ends them when the others have what they had."""
    with ClusterClient(cluster.of("gateway")[0].address) as client:
        for name in names:
            await asyncio.to_thread(client.drain, name)
        await _handed_over(cluster, len(cluster.of("retriever")))
        for name in names:
            await asyncio.to_thread(cluster.processes.stop, cluster.members[name])
            cluster.spare[name] = cluster.members.pop(name)
            await asyncio.to_thread(client.remove, name)


async def moved(cluster: Cluster) -> int:
    """How many shards went from the retrievers that run, or came to them, as members changed."""
    counts = [
        await metric(item, "sirdar_retriever_shards_moved_total")
        for item in cluster.of("retriever")
    ]
    return round(sum(counts))


async def _handed_over(cluster: Cluster, members: int) -> None:
    """Raises NotWhole."""
    deadline = time.monotonic() + _MOST_SECONDS
    with ClusterClient(cluster.of("gateway")[0].address) as client:
        while not _is_whole(shown := await asyncio.to_thread(client.status), members):
            if time.monotonic() > deadline:
                raise NotWhole(f"shards are not handed over: {shown}")
            await asyncio.sleep(_POLL_SECONDS)


def _is_whole(shown: Shown, members: int) -> bool:
    return (
        len(shown.members) == members
        and shown.fully_replicated
        and all(item.shards_ready == item.shards_wanted for item in shown.members)
    )
