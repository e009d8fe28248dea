"""What a job of the commit thread works in."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.retriever.store.group_commit import ShardKey
from services.retriever.store.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Transaction:
    """`locked`: the shards that nobody else writes until it ends. What was read of their rows
    since is true when it commits."""

    connection: Connection
    locked: frozenset[ShardKey] = frozenset()


def lock(connection: Connection, shards: Iterable[ShardKey]) -> frozenset[ShardKey]:
    """Waits for the locks of shards, in their order, so that no two wait for each other."""
    keys = sorted(set(shards))
    if keys:
        connection.execute(
            "SELECT FROM shard JOIN unnest(%s::bigint[], %s::integer[]) AS wanted (key, number)"
            " ON shard.generation_key = wanted.key AND shard.shard = wanted.number"
            " ORDER BY shard.generation_key, shard.shard FOR UPDATE OF shard",
            ([key for key, _ in keys], [number for _, number in keys]),
        )
    return frozenset(keys)
