"""Two retrievers on one store in PostgreSQL: each writes, and shows what the other wrote."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.retriever.settings import RetrieverSettings
from services.runtime.settings import load_settings
from sirdar.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sirdar.v1 import common_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.replica_calls import Pair, everything, single
from tests.rpc.retriever_calls import (
    create,
    definition,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    """Of equals."""
    shared = {"store": postgres_url, "seal_vectors": 32, "store_connections": 6}
    async with (
        retriever(tmp_path / "one", **shared) as one,
        retriever(tmp_path / "two", **shared) as two,
    ):
        yield Pair(one, two)


async def test_each_shows_what_the_other_wrote(pair: Pair) -> None:
    one, two = pair.writer, pair.replica
    await create(one, shards=2)
    await asyncio.gather(
        *(write(one, single(f"one{at}", f"text {at}")) for at in range(40)),
        *(write(two, single(f"two{at}", f"text {at}")) for at in range(40)),
    )
    shown = await everything(one)
    assert set(shown) == {f"{name}{at}" for name in ("one", "two") for at in range(40)}
    assert await everything(two) == shown
    positions = [
        await stub.GetPosition(pb.GetPositionRequest(collection="books")) for stub in (one, two)
    ]
    assert positions[0] == positions[1]
    assert sum(positions[0].committed_seqs) == 80


async def test_a_document_that_both_write_has_one_history(pair: Pair) -> None:
    await create(pair.writer)
    receipts = [
        receipt
        for at in range(10)
        for receipts in await asyncio.gather(
            write(pair.writer, single("d", f"first {at}")),
            write(pair.replica, single("d", f"second {at}")),
        )
        for receipt in receipts
    ]
    assert sorted(receipt.version for receipt in receipts) == list(range(1, 21))
    last = max(receipts, key=lambda receipt: receipt.version)
    for stub in (pair.writer, pair.replica):
        ((version, _),) = (await everything(stub)).values()
        assert version == last.version


async def test_collections_are_known_to_both_at_once(pair: Pair) -> None:
    one, two = pair.writer, pair.replica
    for round_ in range(3):
        await create(one, shards=1 + round_)
        assert isinstance(await refusal(create(two)), AlreadyExists)
        await write(two, single(f"d{round_}", "one two"))
        assert list(await everything(one)) == [f"d{round_}"]
        await two.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
        search = search_request(vector(1), consistency=common_pb2.CONSISTENCY_STRONG)
        assert isinstance(await refusal(one.SearchPassages(search)), NotFound)
        gone = pb.WriteDocumentsRequest(
            collection="books", writes=[single("d", "one two")], fingerprint="print"
        )
        assert isinstance(await refusal(one.WriteDocuments(gone)), NotFound)


async def test_a_session_that_goes_from_one_to_the_other_sees_its_writes(pair: Pair) -> None:
    await create(pair.writer)
    for at in range(10):
        wrote, reads = (pair.writer, pair.replica) if at % 2 else (pair.replica, pair.writer)
        (receipt,) = await write(wrote, single(f"d{at}", f"text {at}"))
        search = search_request(
            vector(f"d{at}/text {at}/0"),
            consistency=common_pb2.CONSISTENCY_SESSION,
            consistency_tokens=[receipt.consistency_token],
        )
        (result,) = (await reads.SearchPassages(search)).results
        assert result.passages[result.dense[0].passage].document_id == f"d{at}"


async def test_a_deletion_by_filter_meets_what_the_other_wrote_before(pair: Pair) -> None:
    made = definition("books")
    made.schema.add(name="color", type=filter_pb2.FIELD_TYPE_KEYWORD)
    await pair.writer.CreateCollection(pb.RetrieverServiceCreateCollectionRequest(collection=made))
    deletion = pb.RetrieverServiceDeleteByFilterRequest(collection="books")
    deletion.filter.equals.field = "color"
    deletion.filter.equals.value.string_value = "red"
    for at in range(5):
        item = single(f"d{at}", "one two")
        item.document.metadata["color"].string_value = "red"
        await write(pair.writer, item)
        assert (await pair.replica.DeleteByFilter(deletion)).documents == 1


async def test_a_retriever_starts_from_what_is_there_and_from_what_it_had(
    tmp_path: Path, postgres_url: str
) -> None:
    async def shown(folder: Path) -> dict[str, tuple[int, str]]:
        async with retriever(folder, store=postgres_url) as stub:
            return await everything(stub)

    async with retriever(tmp_path / "one", store=postgres_url, seal_vectors=32) as stub:
        await create(stub)
        await write(stub, *(single(f"d{at}", f"text {at}") for at in range(60)))
        there = await everything(stub)
    assert await shown(tmp_path / "one") == there
    assert await shown(tmp_path / "new") == there


async def test_folders_and_stores_are_not_mixed_up(tmp_path: Path, postgres_url: str) -> None:
    async def opens(**settings: object) -> None:
        async with retriever(tmp_path / "own", **settings):
            pass

    await opens()
    with pytest.raises(FailedPrecondition, match="its own database"):
        await opens(store=postgres_url)


def test_settings_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, word in (
        (["--store", "mysql://host/db"], "postgresql://"),
        (["--store", "postgresql://host/db", "--follow", "other"], "follow"),
        (["--store-schema", "pg_own"], "store_schema"),
    ):
        with pytest.raises(InvalidArgument, match=word) as refused:
            load_settings(RetrieverSettings, arguments)
        assert "host" not in refused.value.message.replace("HOST", "")
