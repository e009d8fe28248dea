"""Which shards of a collection a retriever has."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.cluster.membership import Membership
from services.cluster.placement import ShardGroup
from services.retriever.store.records import Collection


class Ownership(Protocol):
    def shards(self, collection: Collection) -> Sequence[int]:
        """Their numbers, ascending."""
        ...

    def leads(self, collection: Collection) -> Container[int]:
        """Those of which this one does what one has to do for all who have them."""
        ...


class Everything:
    """Of a retriever that shares its store with none."""

    def shards(self, collection: Collection) -> Sequence[int]:
        return range(collection.generation.shards)

    def leads(self, collection: Collection) -> Container[int]:
        return range(collection.generation.shards)


@dataclass(frozen=True, slots=True)
class Placed:
    """Of the member of this name, by the membership as it is known now. `held`: what it had when
    it ended, of each generation: others may not have taken it over yet."""

    name: str
    membership: Callable[[], Membership]
    held: Mapping[int, frozenset[int]]

    def shards(self, collection: Collection) -> Sequence[int]:
        generation = collection.generation
        group = _group(collection)
        placed = self.membership().placement.owned(self.name, group, generation.shards)
        return sorted(placed | self.held.get(generation.key, frozenset()))

    def leads(self, collection: Collection) -> Container[int]:
        group, placement = _group(collection), self.membership().placement
        return {
            shard
            for shard in range(collection.generation.shards)
            if placement.owners(group, shard)[:1] == (self.name,)
        }


def _group(collection: Collection) -> ShardGroup:
    return ShardGroup(collection.namespace, collection.name, collection.generation.number)
