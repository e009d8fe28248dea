"""The store of record, whatever database is behind it."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.retriever.store.interface import Store
from services.retriever.store.placement import shard_of
from services.retriever.store.records import (
    Collection,
    CollectionUpdate,
    DocumentWrite,
    Receipt,
)
from sirdar.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    SirdarError,
)
from tests.retriever_data import Log, definition, document, vectors, write
from tests.stores import OpenStore


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store(open_store: OpenStore, log: Log) -> Iterator[Store]:
    opened = open_store(log)
    yield opened
    opened.close()


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create_collection(definition("books")).result()


def refused(store: Store, collection: Collection, item: DocumentWrite) -> SirdarError:
    (result,) = store.write_documents(collection.generation, [item]).result()
    assert isinstance(result, SirdarError)
    return result


def test_collections_are_created_once_listed_updated_and_deleted(store: Store) -> None:
    created = store.create_collection(definition("b")).result()
    store.create_collection(definition("a")).result()
    store.create_collection(definition("b", namespace="other")).result()
    with pytest.raises(AlreadyExists):
        store.create_collection(definition("b")).result()
    assert [item.name for item in store.collections("default", "", 10)] == ["a", "b"]
    assert [item.name for item in store.collections("default", "a", 10)] == ["b"]
    update = CollectionUpdate(labels={"team": "search"})
    updated = store.update_collection("default", "b", update).result()
    assert updated.labels == {"team": "search"}
    assert updated.updated_ns >= created.updated_ns
    assert store.delete_collection("default", "b").result() == created.generation
    with pytest.raises(NotFound):
        store.collection("default", "b")
    assert store.collection("other", "b").namespace == "other"


def test_a_deleted_collections_name_starts_afresh_and_its_rows_go(
    store: Store, collection: Collection
) -> None:
    write(store, collection, *(document(f"d{at}") for at in range(500)))
    store.delete_collection("default", "books").result()
    again = store.create_collection(definition("books")).result()
    assert again.generation.key > collection.generation.key
    assert again.documents == 0
    (receipt,) = write(store, again, document("d1"))
    assert receipt.version == 1
    with pytest.raises(NotFound):
        store.write_documents(collection.generation, [document("d1")]).result()
    # Rows are purged between writes; each write below lets another step through.
    for _ in range(20):
        write(store, again, document("d1"))
    left = sum(1 for shard in range(3) for _ in store.changes(collection.generation, shard, 0))
    assert left == 0


def test_sequences_have_no_gap_and_the_listener_hears_them_in_order(
    store: Store, collection: Collection, log: Log
) -> None:
    write(store, collection, *(document(f"d{at}") for at in range(40)))
    write(store, collection, *(document(f"d{at}", "new text") for at in range(0, 40, 3)))
    refused(store, collection, document("d1", if_version=7))
    store.delete_documents(collection.generation, ["d2", "absent", "d4"]).result()
    for shard, committed in enumerate(store.committed_seqs(collection.generation)):
        heard = [item.position.seq for item in log.changes if item.position.shard == shard]
        assert heard == list(range(1, committed + 1))


def test_all_passages_of_a_document_live_in_the_shard_of_its_id(
    store: Store, collection: Collection, log: Log
) -> None:
    for receipt, at in zip(
        write(store, collection, *(document(f"d{at}", passages=3) for at in range(20))),
        range(20),
        strict=True,
    ):
        assert receipt.position.shard == shard_of(f"d{at}", 3)
        assert receipt.passages == 3


def test_versions_count_writes_and_go_on_after_a_deletion(
    store: Store, collection: Collection
) -> None:
    assert [item.version for item in write(store, collection, document("d"), document("d"))] == [
        1,
        2,
    ]
    (deletion,) = store.delete_documents(collection.generation, ["d"]).result()
    assert deletion.existed
    with pytest.raises(NotFound):
        store.document(collection.generation, "d")
    (receipt,) = write(store, collection, document("d", if_version=0))
    assert receipt.version == 3


def test_a_stale_version_is_refused_alone(store: Store, collection: Collection) -> None:
    write(store, collection, document("d"))
    results = store.write_documents(
        collection.generation,
        [
            document("d", "other", if_version=0),
            document("e", if_version=0),
            document("d", "third", if_version=1),
            document("f", if_version=1),
        ],
    ).result()
    assert [type(result) for result in results] == [Aborted, Receipt, Receipt, Aborted]
    assert store.document(collection.generation, "d").text == "third"
    with pytest.raises(NotFound):
        store.document(collection.generation, "f")


def test_kept_passages_stay_while_metadata_changes(
    store: Store, collection: Collection, log: Log
) -> None:
    write(store, collection, document("d", "some text", passages=2))
    ids = log.changes[-1].passage_ids.tolist()
    kept = document("d", "some text", passages=0, keep_passages=True, metadata=b"\x01\x02")
    (receipt,) = write(store, collection, kept)
    assert (receipt.version, receipt.unchanged, receipt.passages) == (2, True, 2)
    assert log.changes[-1].kept
    assert sorted(store.passages(ids, with_text=True)) == ids
    stored = store.document(collection.generation, "d")
    assert (stored.metadata, stored.text) == (b"\x01\x02", "some text")
    other = document("d", "other text", passages=0, keep_passages=True)
    assert isinstance(refused(store, collection, other), FailedPrecondition)
    absent = document("absent", "some text", passages=0, keep_passages=True)
    assert isinstance(refused(store, collection, absent), FailedPrecondition)


def test_passage_ids_are_never_reused(store: Store, collection: Collection, log: Log) -> None:
    seen: set[int] = set()
    for _ in range(3):
        write(store, collection, document("d", passages=4))
        ids = set(log.changes[-1].passage_ids.tolist())
        assert not ids & seen
        seen |= ids
        store.delete_documents(collection.generation, ["d"]).result()
        assert store.passages(list(ids), with_text=True) == {}


def test_passages_are_slices_of_the_text_in_code_points(
    store: Store, collection: Collection, log: Log
) -> None:
    text = "Größe 🙂 zählt. Zweiter Satz."
    write(store, collection, document("d", text, 2, spans=((0, 14), (15, len(text)))))
    found = store.passages(log.changes[-1].passage_ids.tolist(), with_text=True)
    assert [item.text for _, item in sorted(found.items())] == ["Größe 🙂 zählt.", "Zweiter Satz."]
    bare = store.passages(list(found), with_text=False)
    assert [(item.text, item.title, item.start) for _, item in sorted(bare.items())] == [
        ("", "", 0),
        ("", "", 15),
    ]


def test_documents_are_listed_in_the_order_of_their_ids_bytes(
    store: Store, collection: Collection
) -> None:
    ids = ["b", "B", "ä", "a/1", "a", "🙂", "\ufffd", "a b"]
    write(store, collection, *(document(item) for item in ids))
    store.delete_documents(collection.generation, ["a b"]).result()
    ids.remove("a b")
    ordered = sorted(ids, key=str.encode)
    listed: list[str] = []
    more = True
    while more:
        page = store.documents(collection.generation, listed[-1] if listed else "", 2, 2**20)
        listed.extend(item.id for item in page.documents)
        more = page.more
    assert listed == ordered


def test_a_page_of_long_documents_is_short(store: Store, collection: Collection) -> None:
    write(store, collection, *(document(f"d{at}", "x" * 10_000) for at in range(5)))
    for max_bytes, count in ((100_000, 2), (1, 1), (2**20, 5)):
        page = store.documents(collection.generation, "", 5, max_bytes)
        assert (len(page.documents), page.more) == (count, count < 5)


def test_the_log_replays_what_is_live(store: Store, collection: Collection) -> None:
    first, second = document("d1", passages=2), document("d2")
    write(store, collection, first, second)
    write(store, collection, document("d1", "newer text", passages=3))
    store.delete_documents(collection.generation, ["d2"]).result()
    changes = [
        change for shard in range(3) for change in store.changes(collection.generation, shard, 0)
    ]
    assert sorted(len(change.passage_ids) for change in changes) == [0, 3]
    live = next(change for change in changes if len(change.passage_ids))
    np.testing.assert_array_equal(live.vectors, vectors(3, seed=len("newer text")))
    shard, seq = live.position.shard, live.position.seq
    later = store.changes(collection.generation, shard, seq)
    assert live.document_key not in [change.document_key for change in later]


def test_counts_follow_writes_and_deletions(store: Store, collection: Collection) -> None:
    write(store, collection, document("a", passages=3), document("b", passages=2))
    write(store, collection, document("a", "shorter", passages=1))
    store.delete_documents(collection.generation, ["b"]).result()
    counted = store.collection("default", "books")
    assert (counted.documents, counted.passages) == (1, 1)


def test_states_tell_what_need_not_be_embedded_again(store: Store, collection: Collection) -> None:
    write(store, collection, document("a"), document("b"))
    store.delete_documents(collection.generation, ["b"]).result()
    (state,) = store.document_states(collection.generation, ["a", "b", "absent", 'q"uo\\te'])
    assert (state.id, state.version, state.content_hash) == ("a", 1, b"one two")


def test_everything_is_there_after_a_restart(open_store: OpenStore, log: Log) -> None:
    first = open_store(log)
    collection = first.create_collection(definition("books")).result()
    write(first, collection, document("d", "the text", 2, metadata=b"\x05"))
    before = first.document(collection.generation, "d")
    first.close()
    second = open_store(log)
    assert second.all_collections() == [second.collection("default", "books")]
    assert second.document(collection.generation, "d") == before
    second.close()
