"""Which shards of a collection a retriever has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.cluster.membership import Membership
from services.cluster.placement import ShardGroup
from services.retriever.store.records import Collection


class Ownership(Protocol):
    def shards(self, collection: Collection) -> Sequence[int]:
        """Their numbers, ascending."""
        ...


class Everything:
    """Of a retriever that shares its store with none."""

    def shards(self, collection: Collection) -> Sequence[int]:
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
        group = ShardGroup(collection.namespace, collection.name, generation.number)
        placed = self.membership().placement.owned(self.name, group, generation.shards)
        return sorted(placed | self.held.get(generation.key, frozenset()))
