"""WatchShards over gRPC: from what is told of shards to messages."""

from collections.abc import AsyncIterator

from services.retriever.announcements import Announced, AnnouncedState, Announcements, ShardKey
from sirdar.v1 import retriever_pb2 as pb

# A message of so many has 300 KB.
_MAX_SHARDS = 4096
_STATES = {
    AnnouncedState.LOADING: pb.SHARD_STATE_OPENING,
    AnnouncedState.READY: pb.SHARD_STATE_READY,
    AnnouncedState.FAILED: pb.SHARD_STATE_FAILED,
    AnnouncedState.DRAINING: pb.SHARD_STATE_DRAINING,
    AnnouncedState.GONE: pb.SHARD_STATE_GONE,
}


async def messages(
    announcements: Announcements, retriever: str, *, accepts_writes: bool
) -> AsyncIterator[pb.WatchShardsResponse]:
    """`retriever` is its name; empty: it has none."""
    first = True
    async for changes in announcements.watch():
        items = list(changes.items())
        # Nothing is a message, too: a heartbeat.
        for at in range(0, max(1, len(items)), _MAX_SHARDS):
            yield pb.WatchShardsResponse(
                shards=[_announcement(*item) for item in items[at : at + _MAX_SHARDS]],
                more=first and at + _MAX_SHARDS < len(items),
                retriever=retriever,
                accepts_writes=accepts_writes,
            )
        first = False


def _announcement(key: ShardKey, item: Announced) -> pb.ShardAnnouncement:
    return pb.ShardAnnouncement(
        namespace=key.namespace,
        collection=key.collection,
        generation=key.generation,
        shards=key.shards,
        shard=key.shard,
        state=_STATES[item.state],
        applied_seq=item.applied_seq,
    )
