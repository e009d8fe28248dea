"""Which shards of a collection a retriever has."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.cluster.placement import Placement, ShardGroup
from services.retriever.store.records import Collection


@dataclass(frozen=True, slots=True)
class Ownership:
    """Of the retriever of this name; without a placement it has all shards."""

    name: str = ""
    placement: Placement | None = None

    def shards(self, collection: Collection) -> Sequence[int]:
        """Their numbers, ascending."""
        generation = collection.generation
        if self.placement is None:
            return range(generation.shards)
        group = ShardGroup(collection.namespace, collection.name, generation.number)
        return sorted(self.placement.owned(self.name, group, generation.shards))


EVERYTHING = Ownership()
