"""Members of a store: who has shards, who is ready with which, and who may go."""

from collections.abc import Iterator

import pytest

from services.retriever.store.group_commit import ShardKey
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from sirdar.errors import FailedPrecondition, NotFound
from tests.retriever_data import Log, definition

BOTH = frozenset({"one", "two"})


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(Address(postgres_url), Log(), max_waiting_bytes=2**24)
    yield opened
    opened.close()


@pytest.fixture
def shards(store: PostgresStore) -> list[ShardKey]:
    """Those of one collection, of which three members are to have two copies."""
    for name in ("one", "two", "three"):
        store.register(name, 2).result()
    generation = store.create_collection(definition("books", shards=3)).result().generation
    return [(generation.key, number) for number in range(3)]


def test_all_hear_of_a_change_by_its_version(store: PostgresStore) -> None:
    versions = [store.register(name, 2).result().version for name in ("one", "two", "one")]
    assert versions[0] < versions[1] == versions[2]
    assert store.drain("one", force=True).result().version > versions[2]
    store.heads()
    assert store.membership() == store.members()
    assert store.membership().active == ("two",)


def test_who_drains_does_not_come_back_by_itself(store: PostgresStore) -> None:
    for name in ("one", "two", "three"):
        store.register(name, 2).result()
    store.drain("two", force=False).result()
    assert store.register("two", 2).result().active == ("one", "three")
    assert store.undrain("two").result().active == ("one", "three", "two")


def test_what_would_leave_too_few_is_refused(store: PostgresStore) -> None:
    for name in ("one", "two"):
        store.register(name, 2).result()
    with pytest.raises(FailedPrecondition, match=r"without one 1 members.*on 2") as refused:
        store.drain("one", force=False).result()
    assert refused.value.reason == "TOO_FEW_MEMBERS"
    assert store.members().active == ("one", "two")
    store.drain("one", force=True).result()
    for call in (store.drain, store.remove):
        with pytest.raises(FailedPrecondition, match="add a retriever first"):
            call("two", force=True).result()
    with pytest.raises(NotFound, match=r"'who'.*one, two"):
        store.undrain("who").result()


def test_a_shard_is_given_up_only_when_all_its_owners_are_ready(
    store: PostgresStore, shards: list[ShardKey]
) -> None:
    version = store.members().version
    store.note("three", shards, ready=True).result()
    store.note("one", shards[:2], ready=True).result()
    store.note("two", shards[1:], ready=True).result()
    owners = dict.fromkeys(shards, BOTH)
    assert store.ready(shards) == {
        shards[0]: {"one", "three"},
        shards[1]: {"one", "two", "three"},
        shards[2]: {"two", "three"},
    }
    assert store.give_up("three", version, owners).result() == [shards[1]]
    assert sorted(store.held("three")) == [shards[0], shards[2]]
    # It begins anew, and says again what it has.
    store.register("two", 2).result()
    store.note("one", shards[2:], ready=True).result()
    assert store.give_up("three", version, owners).result() == []


def test_nothing_is_given_up_for_a_membership_that_is_over(
    store: PostgresStore, shards: list[ShardKey]
) -> None:
    version = store.members().version
    for name in ("one", "two", "three"):
        store.note(name, shards, ready=True).result()
    store.drain("two", force=False).result()
    owners = dict.fromkeys(shards, BOTH)
    assert store.give_up("three", version, owners).result() == []
    assert len(store.held("three")) == len(shards)


def test_shards_that_too_few_are_ready_with_are_counted(
    store: PostgresStore, shards: list[ShardKey]
) -> None:
    assert store.under_replicated() == 3
    store.note("one", shards, ready=True).result()
    store.note("two", shards[:2], ready=True).result()
    assert store.under_replicated() == 1
    store.note("two", shards[:1], ready=False).result()
    assert store.under_replicated() == 2
    store.delete_collection("default", "books").result()
    assert store.under_replicated() == 0


def test_who_has_what_others_lack_is_not_removed(
    store: PostgresStore, shards: list[ShardKey]
) -> None:
    for name in ("one", "three"):
        store.note(name, shards, ready=True).result()
    with pytest.raises(FailedPrecondition, match="drain it first"):
        store.remove("three", force=False).result()
    store.drain("three", force=False).result()
    with pytest.raises(FailedPrecondition, match="3 shards of three are not on 2 others"):
        store.remove("three", force=False).result()
    store.note("two", shards, ready=True).result()
    assert store.remove("three", force=False).result().active == ("one", "two")
    assert {item.member for item in store.replicas()} == {"one", "two"}
    # It may still run, and is none any more.
    store.note("three", shards, ready=True).result()
    assert store.held("three") == []


def test_who_is_lost_for_good_is_removed_by_force(
    store: PostgresStore, shards: list[ShardKey]
) -> None:
    store.note("three", shards, ready=True).result()
    assert store.remove("three", force=True).result().active == ("one", "two")
