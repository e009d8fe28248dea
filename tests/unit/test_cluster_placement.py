"""Placement as a function: balanced, of the names alone, and moving no more than it must."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cluster.placement import Placement, ShardGroup
from services.cluster.shards import MAX_SHARDS
from sirdar.errors import InvalidArgument

SHARDS = 16
COLLECTIONS = 125
Replica = tuple[ShardGroup, int, str]


def groups(count: int = COLLECTIONS) -> list[ShardGroup]:
    return [ShardGroup("default", f"c{at}", 1 + at % 3) for at in range(count)]


def names(count: int) -> list[str]:
    return [f"retriever-{at}" for at in range(count)]


def replicas(placement: Placement, of: list[ShardGroup]) -> set[Replica]:
    return {
        (group, shard, name)
        for group, shard in product(of, range(SHARDS))
        for name in placement.owners(group, shard)
    }


@pytest.mark.parametrize(("retrievers", "replication"), [(2, 1), (3, 2), (5, 2), (9, 3)])
def test_each_retriever_has_about_as_many(retrievers: int, replication: int) -> None:
    placed = replicas(Placement(names(retrievers), replication), groups())
    counts = Counter(name for _, _, name in placed)
    assert len(placed) == COLLECTIONS * SHARDS * replication
    mean = len(placed) / retrievers
    assert len(counts) == retrievers
    assert max(counts.values()) < 1.15 * mean
    assert min(counts.values()) > 0.85 * mean


@pytest.mark.parametrize(("retrievers", "replication"), [(1, 1), (2, 2), (3, 2), (4, 1), (8, 3)])
def test_one_more_takes_its_share_and_moves_nothing_else(retrievers: int, replication: int) -> None:
    before = replicas(Placement(names(retrievers), replication), groups())
    after = replicas(Placement(names(retrievers + 1), replication), groups())
    moved = after - before
    assert {name for _, _, name in moved} == {f"retriever-{retrievers}"}
    minimum = len(after) / (retrievers + 1)
    assert len(moved) / minimum <= 1.2


def test_two_to_four_move_hardly_more_than_they_must() -> None:
    before = replicas(Placement(names(2), 2), groups())
    after = replicas(Placement(names(4), 2), groups())
    assert len(after - before) / (len(after) / 2) <= 1.2


@settings(max_examples=50, deadline=None)
@given(
    chosen=st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8, unique=True),
    data=st.data(),
)
def test_it_is_a_function_of_the_names_alone(chosen: list[str], data: st.DataObject) -> None:
    replication = data.draw(st.integers(1, len(chosen)))
    shuffled = data.draw(st.permutations(chosen))
    group = ShardGroup("default", "notes", 1)
    one, other = Placement(chosen, replication), Placement(shuffled, replication)
    for shard in range(SHARDS):
        owners = one.owners(group, shard)
        assert owners == other.owners(group, shard)
        assert len(set(owners)) == replication
    for name in chosen:
        owned = one.owned(name, group, SHARDS)
        assert owned == {at for at in range(SHARDS) if name in one.owners(group, at)}


@settings(max_examples=50, deadline=None)
@given(
    chosen=st.lists(st.text(min_size=1, max_size=12), min_size=3, max_size=8, unique=True),
    data=st.data(),
)
def test_who_goes_leaves_the_others_what_they_have(chosen: list[str], data: st.DataObject) -> None:
    replication = data.draw(st.integers(1, len(chosen) - 1))
    gone = data.draw(st.sampled_from(chosen))
    group = ShardGroup("default", "notes", 1)
    before = Placement(chosen, replication)
    after = Placement([name for name in chosen if name != gone], replication)
    for shard in range(SHARDS):
        kept = set(before.owners(group, shard)) - {gone}
        assert kept <= set(after.owners(group, shard))


def test_where_shards_live_does_not_change_between_versions() -> None:
    # What is known to one version and another at the same time, while they are mixed.
    placement = Placement(["a", "b", "c"], 2)
    group = ShardGroup("default", "notes", 1)
    assert [placement.owners(group, shard) for shard in range(4)] == [
        ("c", "b"),
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]


@pytest.mark.parametrize("replication", [2, 3, 100])
def test_where_retrievers_are_too_few_each_has_everything(replication: int) -> None:
    placement = Placement(["a", "b"], replication)
    for name in ("a", "b"):
        assert placement.owned(name, ShardGroup("default", "notes", 1), 8) == set(range(8))


@pytest.mark.parametrize("shards", [0, -1, MAX_SHARDS + 1, 10_000])
def test_a_shard_count_out_of_range_is_refused_with_the_limit(shards: int) -> None:
    placement = Placement(["a"], 1)
    with pytest.raises(InvalidArgument, match=f"1 to {MAX_SHARDS}, not {shards}") as refused:
        placement.owned("a", ShardGroup("default", "notes", 1), shards)
    assert [item.field for item in refused.value.fields] == ["shards"]
