"""A read replica beside the retriever whose store it follows."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.retriever.replica.lag import Lag
from sirdar.errors import DataLoss, FailedPrecondition, NotFound, Unavailable
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.replica_calls import Pair, everything, following, paired, single
from tests.rpc.retriever_calls import (
    Stub,
    create,
    definition,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)

STRONG = common_pb2.CONSISTENCY_STRONG
SESSION = common_pb2.CONSISTENCY_SESSION


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with paired(tmp_path) as both:
        yield both


async def found(stub: Stub, document_id: str, text: str, **changed: object) -> list[str]:
    """What a search for a document's vector and words finds, the words' best first."""
    request = search_request(**({"consistency": STRONG, "candidates": 100} | changed))
    request.queries.add(vector=vector(f"{document_id}/{text}/0"), lexical=text)
    response = await stub.SearchPassages(request)
    assert not response.coverage.missing_shards
    assert not response.missing_lexical_shards
    (result,) = response.results
    dense = [result.passages[item.passage].text for item in result.dense]
    words = [result.passages[item.passage].text for item in result.lexical]
    assert len(set(dense)) == len(dense)
    if text in dense:
        assert (dense[0], words[0]) == (text, text)
    return dense


async def test_each_write_is_seen_by_the_next_strong_read(pair: Pair) -> None:
    await create(pair.writer, shards=2)
    for at in range(20):
        text = f"text number{at} of it"
        await write(pair.writer, single(f"d{at % 7}", text))
        assert text in await found(pair.replica, f"d{at % 7}", text)
        if at % 5 == 4:
            gone = pb.RetrieverServiceDeleteDocumentsRequest(
                collection="books", document_ids=[f"d{at % 7}"]
            )
            await pair.writer.DeleteDocuments(gone)
            assert text not in await found(pair.replica, f"d{at % 7}", text)
    assert await everything(pair.replica) == await everything(pair.writer)


async def test_a_session_sees_its_own_writes(pair: Pair) -> None:
    await create(pair.writer)
    for at in range(10):
        (receipt,) = await write(pair.writer, single("d", f"text number{at} of it"))
        seen = await found(
            pair.replica,
            "d",
            f"text number{at} of it",
            consistency=SESSION,
            consistency_tokens=[receipt.consistency_token],
        )
        assert seen == [f"text number{at} of it"]


async def test_what_was_written_is_seen_without_being_asked_for(pair: Pair) -> None:
    await create(pair.writer)
    await write(pair.writer, single("d", "one two"))
    async with asyncio.timeout(20):
        while not await _eventually(pair.replica):
            pass
    shards = (await pair.replica.ListShards(pb.ListShardsRequest())).shards
    assert sum(shard.applied_seq for shard in shards) == 1


async def _eventually(replica: Stub) -> bool:
    (result,) = (await replica.SearchPassages(search_request(vector("d/one two/0")))).results
    return bool(result.passages)


async def test_a_collection_made_anew_is_another_one(pair: Pair) -> None:
    for round_ in range(4):
        await create(pair.writer, shards=1 + round_)
        (receipt,) = await write(pair.writer, single(f"d{round_}", "one two"))
        assert list(await everything(pair.replica)) == [f"d{round_}"]
        token = receipt.consistency_token
        await found(pair.replica, f"d{round_}", "one two", consistency_tokens=[token])
        positions = [
            await stub.GetPosition(pb.GetPositionRequest(collection="books"))
            for stub in (pair.writer, pair.replica)
        ]
        assert positions[0] == positions[1]
        await pair.writer.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
        search = search_request(vector(1), consistency=STRONG)
        assert isinstance(await refusal(pair.replica.SearchPassages(search)), NotFound)
        get = pb.RetrieverServiceGetDocumentRequest(collection="books", document_id=f"d{round_}")
        assert isinstance(await refusal(pair.replica.GetDocument(get)), NotFound)


async def test_what_expires_is_gone(pair: Pair) -> None:
    await create(pair.writer)
    item = single("short", "one two")
    item.document.expires.FromNanoseconds(time.time_ns() + 500_000_000)
    await write(pair.writer, item, single("long", "one two three"))
    await everything(pair.replica)
    left_ns = item.document.expires.ToNanoseconds() - time.time_ns()
    await asyncio.sleep(max(0, left_ns) / 1e9 + 0.01)
    assert set(await everything(pair.replica)) == {"long"}


async def test_writes_are_refused_with_what_to_do(pair: Pair) -> None:
    await create(pair.writer)
    replica = pair.replica
    calls: list[Awaitable[object]] = [
        replica.CreateCollection(
            pb.RetrieverServiceCreateCollectionRequest(collection=definition("other"))
        ),
        replica.UpdateCollection(pb.RetrieverServiceUpdateCollectionRequest()),
        replica.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books")),
        replica.WriteDocuments(pb.WriteDocumentsRequest(collection="books")),
        replica.UpdateDocuments(pb.RetrieverServiceUpdateDocumentsRequest(collection="books")),
        replica.DeleteDocuments(pb.RetrieverServiceDeleteDocumentsRequest(collection="books")),
        replica.DeleteByFilter(pb.RetrieverServiceDeleteByFilterRequest(collection="books")),
        replica.CreateSnapshot(pb.CreateSnapshotRequest(collection="books")),
    ]
    for call in calls:
        error = await refusal(call)
        assert isinstance(error, FailedPrecondition)
        assert error.reason == "READ_ONLY_REPLICA"
        assert "call the retriever that owns the store" in error.message


async def test_documents_and_passages_are_read(pair: Pair) -> None:
    created = await create(pair.writer)
    await write(pair.writer, single("d", "one two"))
    get = pb.RetrieverServiceGetDocumentRequest(
        collection="books", document_id="d", with_vectors=True
    )
    answers = [await stub.GetDocument(get) for stub in (pair.writer, pair.replica)]
    assert answers[0] == answers[1]
    check = pb.CheckDocumentsRequest(collection="books", document_ids=["d", "e"])
    assert [item.document_id for item in (await pair.replica.CheckDocuments(check)).documents] == [
        "d"
    ]
    ids = search_request(vector(1), ids_only=True, consistency=STRONG)
    (result,) = (await pair.replica.SearchPassages(ids)).results
    fetch = pb.FetchPassagesRequest(collection="books", passage_ids=result.dense_ids.passage_ids)
    assert [item.passage.text for item in (await pair.replica.FetchPassages(fetch)).passages] == [
        "one two"
    ]
    described = await pair.replica.GetCollection(
        pb.RetrieverServiceGetCollectionRequest(name="books")
    )
    assert described.collection.generation == created.generation


async def test_a_replica_waits_for_its_store_and_goes_on_without_the_writer(
    tmp_path: Path,
) -> None:
    serving, done = asyncio.Event(), asyncio.Event()
    replicas: list[Stub] = []

    async def replicate() -> None:
        async with following(tmp_path) as replica:
            replicas.append(replica)
            serving.set()
            await done.wait()

    running = asyncio.create_task(replicate())
    await asyncio.sleep(0.2)
    assert not serving.is_set()
    async with retriever(tmp_path / "writer") as writer:
        await create(writer)
        await write(writer, single("d", "one two"))
        await serving.wait()
        assert await everything(replicas[0]) == {"d": (1, "one two")}
    assert await everything(replicas[0]) == {"d": (1, "one two")}
    async with retriever(tmp_path / "writer") as writer:
        await write(writer, single("d", "now this"))
        assert await everything(replicas[0]) == {"d": (2, "now this")}
    done.set()
    await running


async def test_an_empty_replica_starts_while_writes_go_on(tmp_path: Path) -> None:
    async with retriever(tmp_path / "writer") as writer:
        await create(writer)
        stop = asyncio.Event()

        async def write_on() -> None:
            at = 0
            while not stop.is_set():
                items = [single(f"d{(at + n) % 150}", f"text number{at + n}") for n in range(10)]
                await write(writer, *items)
                at += 10

        writing = asyncio.create_task(write_on())
        await asyncio.sleep(0.3)
        # Its indexes are built slower than it could read the log.
        async with following(tmp_path, seal_vectors=16, max_full_segments=1) as replica:
            await asyncio.sleep(0.3)
            stop.set()
            await writing
            assert await everything(replica) == await everything(writer)


async def test_a_replica_keeps_its_indexes_unless_the_store_is_another(tmp_path: Path) -> None:
    async with retriever(tmp_path / "writer", seal_vectors=32) as writer:
        await create(writer, shards=1)
        await write(writer, *(single(f"d{at}", f"text number{at}") for at in range(100)))
        async with following(tmp_path) as replica:
            await _sealed(replica)
        (kept,) = (tmp_path / "replica" / "segments").glob("*/*/manifest.json")
        await write(writer, *(single(f"d{at}", f"later number{at}") for at in range(10)))
        async with following(tmp_path) as replica:
            assert await everything(replica) == await everything(writer)
        for damaged in kept.parent.glob("*.faiss"):
            damaged.write_bytes(b"damaged")
        async with following(tmp_path) as replica:
            assert await everything(replica) == await everything(writer)
    # Another store in the place of this one, of the same collection keys.
    for path in (tmp_path / "writer").glob("store.sqlite3*"):
        path.unlink()
    async with retriever(tmp_path / "writer") as writer:
        await create(writer, shards=1)
        await write(writer, *(single(f"e{at}", f"other number{at}") for at in range(120)))
        async with following(tmp_path) as replica:
            assert await everything(replica) == await everything(writer)


async def _sealed(stub: Stub) -> None:
    async with asyncio.timeout(30):
        while True:
            shards = (await stub.ListShards(pb.ListShardsRequest())).shards
            if shards and all(shard.sealed_segments for shard in shards):
                return
            await asyncio.sleep(0.05)


async def test_no_read_stays_open_that_would_hold_back_the_stores_log(
    pair: Pair, tmp_path: Path
) -> None:
    await create(pair.writer)
    await write(pair.writer, *(single(f"d{at}", f"text number{at}") for at in range(100)))
    await everything(pair.replica)
    log = tmp_path / "writer" / "store.sqlite3-wal"
    assert log.stat().st_size > 0
    with closing(sqlite3.connect(tmp_path / "writer" / "store.sqlite3")) as connection:
        for _ in range(100):
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                break
            await asyncio.sleep(0.05)
    assert log.stat().st_size == 0
    await write(pair.writer, single("d0", "now this"))
    assert (await everything(pair.replica))["d0"] == (2, "now this")


async def test_a_replica_whose_store_was_replaced_says_so(tmp_path: Path) -> None:
    async with retriever(tmp_path / "writer") as writer:
        await create(writer)
        await write(writer, single("d", "one two"))
    async with following(tmp_path) as replica:
        store = tmp_path / "writer" / "store.sqlite3"
        store.rename(store.with_name("elsewhere"))
        error = await refusal(replica.SearchPassages(search_request(vector(1), consistency=STRONG)))
        assert isinstance(error, Unavailable)
        assert error.reason == "STORE_REPLACED"


async def test_folders_that_a_replica_cannot_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another folder than data_folder"):
        async with following(tmp_path, name="writer"):
            pass
    async with retriever(tmp_path / "writer"):
        pass
    async with retriever(tmp_path / "replica"):
        pass
    with pytest.raises(FailedPrecondition, match="a retriever that writes"):
        async with following(tmp_path):
            pass
    (tmp_path / "writer" / "store.sqlite3").write_bytes(b"x" * 10_000)
    with pytest.raises(DataLoss, match="damaged"):
        async with following(tmp_path, name="other"):
            pass


async def test_the_lag_of_each_collection_is_in_the_metrics(pair: Pair) -> None:
    def lag(name: str, of: str) -> float | None:
        labels = {"tenant": "default", "collection": of}
        return REGISTRY.get_sample_value(f"sirdar_retriever_replica_lag_{name}", labels)

    await create(pair.writer, "lagging")
    await write(pair.writer, single("d", "one two"), collection="lagging")
    request = search_request(vector(1), collection="lagging", consistency=STRONG)
    await pair.replica.SearchPassages(request)
    assert lag("writes", "lagging") == 0
    assert lag("seconds", "lagging") is not None
    await pair.writer.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="lagging"))
    assert isinstance(await refusal(pair.replica.SearchPassages(request)), NotFound)
    assert lag("writes", "lagging") is None


def test_lag_counts_from_when_a_collection_was_last_complete() -> None:
    lag = Lag(lambda _: None)
    now = time.monotonic()
    lag.checked([], now - 300)
    lag.checked([1], now - 200)
    lag.checked([1, 2], now - 100)
    assert lag.seconds(1) >= 300
    assert 200 <= lag.seconds(2) < 300
    assert 100 <= lag.seconds(3) < 200
    lag.checked([2], now)
    assert lag.seconds(1) < 100
    assert lag.seconds(2) >= 200
