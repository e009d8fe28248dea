"""Where shards live: a pure function of names, so that nobody has to be asked or elected.

Rendezvous hashing: each retriever scores each shard, and the best scores win. A
retriever that comes takes shards from all others, one that goes leaves its own to
all others, and no other shard moves. Thaler and Ravishankar, Using name-based
mappings to increase hit rates, 1998.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import xxhash

from services.cluster.shards import check_shards
from sirdar.errors import InvalidArgument


class ShardGroup(NamedTuple):
    """The shards of one generation of a collection."""

    namespace: str
    collection: str
    generation: int


class Placement:
    """Each shard lives on `replication` of the retrievers; the order of their names does not
    matter.

    Raises InvalidArgument where a name is there twice or replication does not fit.
    """

    def __init__(self, retrievers: Sequence[str], replication: int) -> None:
        check_names(retrievers)
        check_replication(replication, len(retrievers))
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


def check_names(retrievers: Iterable[str]) -> None:
    """Raises InvalidArgument for a name that is there twice: it would have two places."""
    seen: set[str] = set()
    for at, name in enumerate(retrievers):
        if name in seen:
            raise InvalidArgument.field(
                f"retrievers[{at}].name",
                f"is {name!r}, as of another; give each a name of its own",
                reason="DUPLICATE_RETRIEVER",
            )
        seen.add(name)


def check_replication(replication: int, retrievers: int) -> None:
    """Raises InvalidArgument where there are not as many retrievers as a shard is to be on."""
    if replication < 1:
        raise InvalidArgument.field(
            "replication", f"must be at least 1, not {replication}", reason="BAD_REPLICATION"
        )
    if replication > retrievers:
        raise InvalidArgument.field(
            "replication",
            f"is {replication}, and there are {retrievers} retrievers that may have shards; "
            "add retrievers or ask for fewer replicas",
            reason="BAD_REPLICATION",
        )
