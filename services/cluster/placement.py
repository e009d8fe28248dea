"""Where shards live: a pure function of names, so that nobody has to be asked or elected.

Rendezvous hashing: each retriever scores each shard, and the best scores win. A
retriever that comes takes shards from all others, one that goes leaves its own to
all others, and no other shard moves. Thaler and Ravishankar, Using name-based
mappings to increase hit rates, 1998.
"""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import xxhash

from services.cluster.shards import check_shards


class ShardGroup(NamedTuple):
    """The shards of one generation of a collection."""

    namespace: str
    collection: str
    generation: int


class Placement:
    """Each shard lives on `replication` of the retrievers, or on all where they are fewer; the
    order of their names does not matter."""

    def __init__(self, retrievers: Iterable[str], replication: int) -> None:
        # An order of their own decides where two scores are equal.
        self.retrievers = tuple(sorted(retrievers))
        self.replication = replication

    def owners(self, group: ShardGroup, shard: int) -> tuple[str, ...]:
        """The retrievers that have the shard, the best score first."""
        of = f"{group.namespace}/{group.collection}/{group.generation}/{shard}/"
        return tuple(
            heapq.nlargest(
                self.replication,
                self.retrievers,
                key=lambda name: xxhash.xxh64_intdigest((of + name).encode()),
            )
        )

    def owned(self, retriever: str, group: ShardGroup, shards: int) -> frozenset[int]:
        """Those of so many shards that a retriever has. Raises InvalidArgument where there cannot
        be so many."""
        check_shards(shards, "shards")
        return frozenset(shard for shard in range(shards) if retriever in self.owners(group, shard))
