"""What the gateway makes of announcements: whom it would ask for which shards."""

from dataclasses import dataclass

import pytest

from gateway.backends.picture import Group, Picture
from sirdar.v1 import retriever_pb2

READY = retriever_pb2.SHARD_STATE_READY
LOADING = retriever_pb2.SHARD_STATE_OPENING
DRAINING = retriever_pb2.SHARD_STATE_DRAINING
FAILED = retriever_pb2.SHARD_STATE_FAILED
GONE = retriever_pb2.SHARD_STATE_GONE


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


def shard(
    number: int,
    state: "retriever_pb2.ShardState.ValueType" = READY,
    *,
    seq: int = 1,
    shards: int = 2,
    generation: int = 1,
) -> retriever_pb2.ShardAnnouncement:
    return retriever_pb2.ShardAnnouncement(
        namespace="default",
        collection="notes",
        generation=generation,
        shards=shards,
        shard=number,
        state=state,
        applied_seq=seq,
    )


def holders(picture: Picture) -> dict[int, set[int]]:
    groups = picture.groups("default", "notes")
    return {number: set(group.holders) for group in groups for number in group.shards}


def test_shards_of_the_same_retrievers_are_one_group() -> None:
    picture = Picture(3)
    picture.begin(0, [shard(0), shard(1)])
    picture.begin(1, [shard(0), shard(1)])
    assert picture.groups("default", "notes") == (Group((0, 1), frozenset({0, 1})),)
    picture.begin(2, [shard(1)])
    assert holders(picture) == {0: {0, 1}, 1: {0, 1, 2}}


def test_of_what_nobody_announces_nothing_is_known() -> None:
    picture = Picture(2)
    assert picture.groups("default", "notes") == ()
    picture.begin(0, [shard(0), shard(1)])
    assert picture.groups("default", "others") == ()
    picture.change(0, [shard(0, GONE), shard(1, GONE)])
    assert picture.groups("default", "notes") == ()


@pytest.mark.parametrize("state", [LOADING, DRAINING, FAILED])
def test_who_is_not_ready_is_asked_only_where_nobody_is(
    state: "retriever_pb2.ShardState.ValueType",
) -> None:
    picture = Picture(2)
    picture.begin(0, [shard(0), shard(1)])
    picture.begin(1, [shard(0, state), shard(1)])
    assert holders(picture) == {0: {0}, 1: {0, 1}}
    picture.change(0, [shard(0, LOADING)])
    assert 1 in holders(picture)[0]
    picture.change(1, [shard(0, READY)])
    assert holders(picture) == {0: {1}, 1: {0, 1}}


def test_draining_comes_before_what_answers_nothing() -> None:
    picture = Picture(3)
    picture.begin(0, [shard(0, LOADING), shard(1)])
    picture.begin(1, [shard(0, DRAINING), shard(1)])
    picture.begin(2, [shard(0, FAILED), shard(1)])
    assert holders(picture)[0] == {1}


def test_who_leaves_is_asked_where_who_took_over_is_gone() -> None:
    picture = Picture(2)
    picture.begin(0, [shard(0, DRAINING), shard(1)])
    picture.begin(1, [shard(0), shard(1)])
    assert holders(picture)[0] == {1}
    picture.lost(1)
    assert holders(picture)[0] == {0}
    picture.change(0, [shard(0, GONE)])
    assert holders(picture)[0] == {1}


def test_who_stays_behind_is_left_until_it_has_caught_up() -> None:
    clock = Clock()
    picture = Picture(2, clock)
    picture.begin(0, [shard(0, seq=10, shards=1)])
    picture.begin(1, [shard(0, seq=10, shards=1)])
    # A moment behind is what any replica is.
    picture.change(0, [shard(0, seq=20, shards=1)])
    assert holders(picture) == {0: {0, 1}}
    for _ in range(3):
        clock.seconds += 1.1
        picture.change(0, [shard(0, seq=20, shards=1)])
    assert holders(picture) == {0: {0}}
    picture.change(1, [shard(0, seq=20, shards=1)])
    assert holders(picture) == {0: {0, 1}}


def test_a_collection_made_anew_is_not_behind_what_it_was() -> None:
    clock = Clock()
    picture = Picture(2, clock)
    for place in (0, 1):
        picture.begin(place, [shard(0, seq=500, shards=1)])
    for seq in (1, 2, 3):
        clock.seconds += 1.1
        for place in (0, 1):
            picture.change(place, [shard(0, seq=seq, shards=1)])
    assert holders(picture) == {0: {0, 1}}
    picture.change(0, [shard(0, shards=3, generation=2)])
    assert holders(picture)[0] == {0}


def test_who_cannot_be_heard_is_asked_where_nobody_else_is_ready() -> None:
    picture = Picture(2)
    picture.begin(0, [shard(0), shard(1)])
    picture.begin(1, [shard(0)])
    picture.lost(0)
    assert holders(picture) == {0: {1}, 1: {0}}
    picture.begin(0, [shard(1)])
    assert holders(picture) == {0: {1}, 1: {0}}
    picture.begin(0, [shard(0), shard(1)])
    assert holders(picture) == {0: {0, 1}, 1: {0}}


def test_an_older_one_has_everything_and_one_never_heard_may_have_what_nobody_has() -> None:
    picture = Picture(3)
    picture.begin(0, [shard(0)])
    assert holders(picture) == {0: {0}, 1: {1, 2}}
    picture.older(2)
    assert holders(picture) == {0: {0, 2}, 1: {2}}


def test_writes_are_for_those_who_say_so_and_are_there() -> None:
    picture = Picture(3)
    assert picture.writers == frozenset()
    for place in (0, 1):
        picture.begin(place, [])
        picture.takes_writes(place, place == 1)
    assert picture.writers == {1}
    picture.takes_writes(0, True)
    assert picture.writers == {0, 1}
    assert picture.present == {0, 1}
    picture.lost(1)
    assert picture.writers == {0}
    picture.older(2)
    assert picture.present == {0, 2}
