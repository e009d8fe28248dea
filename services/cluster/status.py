"""How far the shards are where they are to be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.cluster.membership import Member, Membership, Replica
from services.cluster.placement import ShardGroup


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """Of its shards: those that it is to have, those that it has said to answer from, and those
    that others are not ready with as often as they are to be without it."""

    member: Member
    wanted: int
    ready: int
    to_hand_over: int


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    replication: int
    shards: int
    fully_replicated: int
    members: tuple[MemberStatus, ...]


def status(
    membership: Membership,
    groups: Mapping[int, tuple[ShardGroup, int]],
    replicas: Iterable[Replica],
) -> ClusterStatus:
    """`groups`: each generation by its key, with how many shards it has."""
    there = [item for item in replicas if item.generation_key in groups]
    ready: dict[tuple[int, int], set[str]] = defaultdict(set)
    for item in there:
        if item.ready:
            ready[item.generation_key, item.shard].add(item.member)
    wanted: dict[str, int] = defaultdict(int)
    for group, shards in groups.values():
        for shard in range(shards):
            for name in membership.placement.owners(group, shard):
                wanted[name] += 1

    def member_status(member: Member) -> MemberStatus:
        others = [name for name in membership.active if name != member.name]
        copies = min(membership.replication, len(others))
        mine = [item for item in there if item.member == member.name]
        return MemberStatus(
            member,
            wanted[member.name],
            sum(item.ready for item in mine),
            sum(
                len(ready[item.generation_key, item.shard] - {member.name}) < copies
                for item in mine
            ),
        )

    return ClusterStatus(
        membership.replication,
        sum(shards for _, shards in groups.values()),
        sum(len(names) >= membership.replication for names in ready.values()),
        tuple(member_status(member) for member in membership.members),
    )
