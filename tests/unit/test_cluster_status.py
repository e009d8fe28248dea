"""How far the shards are where they are to be, as a function of what members said."""

from services.cluster.membership import Member, Membership, Replica
from services.cluster.placement import ShardGroup
from services.cluster.status import ClusterStatus, status

GROUPS = {7: (ShardGroup("default", "notes", 1), 2)}


def membership(*active: str, draining: str = "", replication: int = 2) -> Membership:
    members = [Member(name, draining=name == draining, since_ns=0) for name in active]
    return Membership(1, replication, tuple(members))


def ready(*members: str) -> list[Replica]:
    return [Replica(7, shard, name, ready=True) for name in members for shard in range(2)]


def to_hand_over(found: ClusterStatus) -> dict[str, int]:
    return {item.member.name: item.to_hand_over for item in found.members}


def test_shards_are_whole_when_as_many_as_wanted_are_ready() -> None:
    both = membership("one", "two")
    assert status(both, GROUPS, ready("one")).fully_replicated == 0
    whole = status(both, GROUPS, ready("one", "two"))
    assert (whole.shards, whole.fully_replicated) == (2, 2)
    assert [(item.wanted, item.ready) for item in whole.members] == [(2, 2), (2, 2)]


def test_fewer_members_than_replicas_leave_no_shard_whole() -> None:
    found = status(membership("one", "two", replication=3), GROUPS, ready("one", "two"))
    assert found.fully_replicated == 0
    assert [item.wanted for item in found.members] == [2, 2]


def test_who_drains_has_handed_over_what_enough_others_are_ready_with() -> None:
    three = membership("one", "two", "three", draining="three")
    assert to_hand_over(status(three, GROUPS, ready("one", "three")))["three"] == 2
    done = status(three, GROUPS, ready("one", "two", "three"))
    assert to_hand_over(done)["three"] == 0
    assert done.members[2].wanted == 0


def test_what_is_of_collections_that_are_gone_does_not_count() -> None:
    gone = [Replica(8, 0, "one", ready=True)]
    found = status(membership("one", "two"), GROUPS, gone)
    assert (found.shards, found.members[0].ready) == (2, 0)
