"""Who shares a store, as the store has it."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from services.cluster.placement import Placement


@dataclass(frozen=True, slots=True)
class Member:
    """`draining`: it is to have no shards any more. Nobody leaves by being dead."""

    name: str
    draining: bool
    since_ns: int


@dataclass(frozen=True)
class Membership:
    """`version`: another after each change. `replication`: on how many members each shard is to
    be."""

    version: int
    replication: int
    members: tuple[Member, ...]

    @cached_property
    def active(self) -> tuple[str, ...]:
        """The names of those that have shards."""
        return tuple(item.name for item in self.members if not item.draining)

    @cached_property
    def placement(self) -> Placement:
        return Placement(self.active, self.replication)


class Replica(NamedTuple):
    """A shard as a member has it; `ready`: it answers from it."""

    generation_key: int
    shard: int
    member: str
    ready: bool
