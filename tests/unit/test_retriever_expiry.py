"""Documents with an end, partial updates, and a clock that jumps: sequences order, never clocks."""

from collections.abc import Iterator

import pytest

from services.retriever.store.interface import Store
from services.retriever.store.records import Collection, DocumentPatch, Receipt
from services.retriever.sweeper import Sweeper
from sirdar.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from tests.retriever_data import Log, definition, document, write
from tests.stores import OpenStore


class Clock:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store(open_store: OpenStore, log: Log, clock: Clock) -> Iterator[Store]:
    opened = open_store(log, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create_collection(definition("books")).result()


def patch(document_id: str, added: bytes = b"", **changed: object) -> DocumentPatch:
    return DocumentPatch(document_id, lambda data: data + added, 100, **changed)  # type: ignore[arg-type]


def there(store: Store, collection: Collection) -> list[str]:
    page = store.documents(collection.generation, "", 100, 2**20)
    return [item.id for item in page.documents]


def test_what_is_expired_is_there_for_no_read_and_no_condition(
    store: Store, collection: Collection, clock: Clock, log: Log
) -> None:
    write(store, collection, document("brief", expires_ns=2_000), document("long"))
    ids = [int(passage_id) for change in log.changes for passage_id in change.passage_ids]
    assert there(store, collection) == ["brief", "long"]
    assert not store.has_expired()
    for with_text in (True, False):
        read = store.passages(ids, with_text=with_text)
        assert {passage.document_id: passage.expires_ns for passage in read.values()} == {
            "brief": 2_000,
            "long": None,
        }
    clock.now = 2_000
    assert store.has_expired()
    assert there(store, collection) == ["long"]
    with pytest.raises(NotFound):
        store.document(collection.generation, "brief")
    assert [
        item.id for item in store.document_states(collection.generation, ["brief", "long"])
    ] == ["long"]
    for found in (
        store.passages(ids, with_text=True),
        store.passages(ids, with_text=False),
        store.passages_of(collection.generation, ids),
    ):
        assert [passage.document_id for passage in found.values()] == ["long"]
    kept = document("brief", passages=0, keep_passages=True)
    (refused,) = store.write_documents(collection.generation, [kept]).result()
    assert isinstance(refused, FailedPrecondition)
    (refused,) = store.update_documents(collection.generation, [patch("brief")]).result()
    assert isinstance(refused, NotFound)
    (receipt,) = write(store, collection, document("brief", "again", if_version=0))
    assert receipt.version == 2
    assert there(store, collection) == ["brief", "long"]
    counted = store.collection("default", "books")
    assert (counted.documents, counted.passages) == (2, 2)


def test_sweeps_delete_in_steps_as_deletions_that_indexes_see(
    store: Store, collection: Collection, clock: Clock, log: Log
) -> None:
    other = store.create_collection(definition("other", shards=1)).result()
    dropped = store.create_collection(definition("dropped")).result()
    for at in range(10):
        write(store, collection, document(f"d{at}", expires_ns=2_000 + at))
    write(store, other, document("d", passages=3, expires_ns=1_500), document("stays"))
    write(store, dropped, document("d", expires_ns=1_500))
    store.delete_collection("default", "dropped").result()
    clock.now = 2_004
    assert [store.sweep(4).result() for _ in range(3)] == [4, 2, 0]
    assert [change.deleted for change in log.changes[-6:]] == [True] * 6
    for of in (collection, other):
        for shard, committed in enumerate(store.committed_seqs(of.generation)):
            seqs = [
                change.position.seq
                for change in log.changes
                if (change.position.generation_key, change.position.shard)
                == (of.generation.key, shard)
            ]
            assert seqs == list(range(1, committed + 1))
    counted = [store.collection("default", name) for name in ("books", "other")]
    assert [(item.documents, item.passages) for item in counted] == [(5, 5), (1, 1)]
    assert there(store, collection) == [f"d{at}" for at in range(5, 10)]


def test_a_clock_that_jumps_back_changes_no_order_and_brings_back_no_swept_document(
    store: Store, collection: Collection, clock: Clock
) -> None:
    clock.now = 5_000
    first, *_ = write(store, collection, document("d"), document("swept", expires_ns=6_000))
    clock.now = 6_000
    assert store.sweep(10).result() == 1
    write(store, collection, document("waits", expires_ns=6_500))
    clock.now = 6_500
    assert there(store, collection) == ["d"]
    clock.now = 100
    # Swept is deleted; what was only hidden is shown until its time comes again.
    assert there(store, collection) == ["d", "waits"]
    (second,) = write(store, collection, document("d", "newer"))
    assert second.version == first.version + 1
    assert second.position.seq > first.position.seq
    assert (first.written_ns, second.written_ns) == (5_000, 100)
    assert store.document(collection.generation, "d").text == "newer"
    clock.now = 6_500
    assert store.sweep(10).result() == 1
    clock.now = 0
    assert there(store, collection) == ["d"]


def test_deleting_what_is_expired_deletes_and_says_that_it_was_not_there(
    store: Store, collection: Collection, clock: Clock
) -> None:
    write(store, collection, document("brief", expires_ns=2_000), document("d"))
    clock.now = 3_000
    deletions = store.delete_documents(collection.generation, ["brief", "d", "d"]).result()
    assert [item.existed for item in deletions] == [False, True, False]
    clock.now = 0
    assert there(store, collection) == []


def test_a_write_sets_the_expiry_anew_and_a_patch_only_where_it_says_so(
    store: Store, collection: Collection
) -> None:
    def expiry() -> int | None:
        return store.document(collection.generation, "d").expires_ns

    write(store, collection, document("d", expires_ns=2_000))
    assert expiry() == 2_000
    for changes, wanted in [
        (patch("d", b"x"), 2_000),
        (patch("d", changes_expiry=True, expires_ns=3_000), 3_000),
        (patch("d", changes_expiry=True), None),
    ]:
        store.update_documents(collection.generation, [changes]).result()
        assert expiry() == wanted
    write(store, collection, document("d", passages=0, keep_passages=True, expires_ns=4_000))
    assert expiry() == 4_000
    write(store, collection, document("d"))
    assert expiry() is None


def test_patches_are_applied_in_order_each_alone_and_keep_passages(
    store: Store, collection: Collection, log: Log
) -> None:
    write(store, collection, document("a", passages=2, metadata=b"0"), document("b"))
    ids = store.passages(log.changes[0].passage_ids.tolist(), with_text=False)

    def refuse(data: bytes) -> bytes:
        raise InvalidArgument.field("updates[2].set", "is bad")

    results = store.update_documents(
        collection.generation,
        [
            patch("a", b"1"),
            patch("a", b"2", if_version=1),
            DocumentPatch("b", refuse, 100),
            patch("absent"),
            patch("a", b"3", if_version=2),
        ],
    ).result()
    assert [type(item) for item in results] == [
        Receipt,
        Aborted,
        InvalidArgument,
        NotFound,
        Receipt,
    ]
    last = results[-1]
    assert isinstance(last, Receipt)
    assert (last.version, last.passages, last.unchanged) == (3, 2, True)
    assert store.document(collection.generation, "a").metadata == b"013"
    assert store.document(collection.generation, "b").receipt.version == 1
    assert [(change.kept, change.metadata) for change in log.changes[2:]] == [
        (True, b"01"),
        (True, b"013"),
    ]
    after = store.passages(list(ids), with_text=False)
    assert [passage.version for passage in after.values()] == [3, 3]


def test_documents_written_twice_in_one_call_are_written_in_order(
    store: Store, collection: Collection, log: Log
) -> None:
    receipts = write(
        store,
        collection,
        document("a"),
        document("b"),
        document("a", "second", passages=3),
        document("a", "second", passages=0, keep_passages=True, metadata=b"m"),
        document("b", "other", if_version=1),
    )
    assert [item.version for item in receipts] == [1, 1, 2, 3, 2]
    counted = store.collection("default", "books")
    assert (counted.documents, counted.passages) == (2, 4)
    live = store.passages(
        [int(item) for change in log.changes for item in change.passage_ids], True
    )
    assert sorted(passage.text for passage in live.values()) == ["cond", "econd", "other", "second"]


def test_the_sweeper_sweeps_until_nothing_is_left(
    store: Store, collection: Collection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.sweeper._PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("services.retriever.sweeper._STEP_DOCUMENTS", 3)
    write(store, collection, *(document(f"d{at}", expires_ns=2_000) for at in range(10)))
    clock.now = 2_000
    sweeper = Sweeper(store, tombstones_kept_seconds=60)
    sweeper.start()
    while store.has_expired():
        pass
    sweeper.close()
    clock.now = 0
    assert there(store, collection) == []
