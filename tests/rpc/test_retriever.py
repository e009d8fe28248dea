"""Collections and documents through RetrieverService, over a real data folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from services.retriever.sealer import Sealer
from sirdar.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from sirdar.v1 import collection_pb2, common_pb2
from sirdar.v1 import retriever_pb2 as pb
from sirdar.v1.document_pb2 import MetadataValue, StringList
from tests.rpc.retriever_calls import (
    FINGERPRINT,
    Stub,
    create,
    document_write,
    fault,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as running:
        yield running


async def test_a_collection_from_creation_to_deletion(stub: Stub) -> None:
    created = await create(stub, shards=3, index_kind="flat")
    assert (created.namespace, created.generation.number) == ("default", 1)
    assert (created.generation.shards, created.generation.index_kind) == (3, "flat")
    assert created.generation.similarity == collection_pb2.SIMILARITY_COSINE
    again = pb.RetrieverServiceCreateCollectionRequest(collection=created)
    assert isinstance(await refusal(stub.CreateCollection(again)), AlreadyExists)

    update = pb.RetrieverServiceUpdateCollectionRequest(
        collection=collection_pb2.Collection(
            name="books", description="All of them", labels={"team": "library"}
        ),
        update_mask=FieldMask(paths=["description"]),
    )
    updated = (await stub.UpdateCollection(update)).collection
    assert (updated.description, dict(updated.labels)) == ("All of them", {})

    await write(stub, document_write("d", "one two three", spans=((0, 7), (4, 13))))
    get = pb.RetrieverServiceGetCollectionRequest(name="books")
    got = (await stub.GetCollection(get)).collection
    assert (got.documents, got.passages, got.description) == (1, 2, "All of them")

    delete = pb.RetrieverServiceDeleteCollectionRequest(name="books")
    await stub.DeleteCollection(delete)
    assert isinstance(await refusal(stub.GetCollection(get)), NotFound)
    assert isinstance(await refusal(stub.DeleteCollection(delete)), NotFound)
    assert isinstance(await refusal(stub.SearchPassages(search_request(vector(1)))), NotFound)
    assert (await create(stub)).documents == 0


async def test_collections_are_listed_by_page(stub: Stub) -> None:
    for name in ("c", "a", "b"):
        await create(stub, name)
    request = pb.RetrieverServiceListCollectionsRequest(page_size=2)
    first = await stub.ListCollections(request)
    request.page_token = first.next_page_token
    second = await stub.ListCollections(request)
    assert [item.name for item in first.collections] == ["a", "b"]
    assert [item.name for item in second.collections] == ["c"]
    assert second.next_page_token == ""
    request.namespace = "other"
    error = await refusal(stub.ListCollections(request))
    assert (error.reason, field_of(error)) == ("BAD_PAGE_TOKEN", "page_token")


@pytest.mark.parametrize(
    "path", ["name", "namespace", "generation", "generation.shards", "created", "color"]
)
async def test_only_description_and_labels_can_be_updated(stub: Stub, path: str) -> None:
    collection = await create(stub)
    request = pb.RetrieverServiceUpdateCollectionRequest(
        collection=collection, update_mask=FieldMask(paths=["labels", path])
    )
    error = await refusal(stub.UpdateCollection(request))
    assert isinstance(error, InvalidArgument)
    assert error.reason == "IMMUTABLE_FIELD"


async def test_a_document_comes_back_as_it_was_written(stub: Stub) -> None:
    await create(stub)
    item = document_write("bücher/1", "Größe 🙂 zählt", spans=((0, 13),))
    item.document.metadata["string"].string_value = "ä"
    item.document.metadata["list"].string_list.CopyFrom(StringList(values=["a", ""]))
    item.document.metadata["integer"].int64_value = 2**63 - 1
    item.document.metadata["double"].double_value = 0.1
    item.document.metadata["false"].bool_value = False
    item.document.metadata["time"].CopyFrom(
        MetadataValue(timestamp_value=Timestamp(seconds=-1, nanos=999_999_999))
    )
    (receipt,) = await write(stub, item)
    assert (receipt.version, receipt.passages, receipt.unchanged) == (1, 1, False)
    get = pb.RetrieverServiceGetDocumentRequest(collection="books", document_id="bücher/1")
    stored = (await stub.GetDocument(get)).document
    assert stored.document == item.document
    assert stored.receipt == receipt
    response = await stub.SearchPassages(search_request(item.passages[0].vector))
    (passage,) = response.results[0].passages
    assert (passage.document_id, passage.text, passage.title) == (
        "bücher/1",
        "Größe 🙂 zählt",
        "About bücher/1",
    )
    assert dict(passage.metadata) == dict(item.document.metadata)
    assert (passage.version, passage.index, passage.span) == (
        1,
        0,
        common_pb2.Span(start=0, end=13),
    )


async def test_documents_are_listed_by_page_of_one_list(stub: Stub) -> None:
    await create(stub)
    await create(stub, "other")
    await write(stub, *(document_write(f"d{at:02}") for at in range(25)))
    request = pb.RetrieverServiceListDocumentsRequest(collection="books", page_size=10)
    ids: list[str] = []
    tokens = []
    while True:
        page = await stub.ListDocuments(request)
        ids.extend(item.document.id for item in page.documents)
        if not page.next_page_token:
            break
        tokens.append(request.page_token)
        request.page_token = page.next_page_token
    assert ids == [f"d{at:02}" for at in range(25)]
    assert len(tokens) == 2
    for name, token in (("other", request.page_token), ("books", "nonsense"), ("books", "AAAA")):
        bad = pb.RetrieverServiceListDocumentsRequest(collection=name, page_token=token)
        error = await refusal(stub.ListDocuments(bad))
        assert (error.reason, field_of(error)) == ("BAD_PAGE_TOKEN", "page_token")


async def test_checked_documents_say_what_is_known(stub: Stub) -> None:
    await create(stub)
    await write(stub, document_write("a", "some text"), document_write("b", "other"[:7] + "!!"))
    request = pb.CheckDocumentsRequest(collection="books", document_ids=["a", "absent"])
    response = await stub.CheckDocuments(request)
    assert response.generation == 1
    (state,) = response.documents
    assert (state.document_id, state.version, state.content_hash) == ("a", 1, b"some text")


async def test_of_writes_of_one_id_in_a_request_the_last_wins(stub: Stub) -> None:
    await create(stub)
    receipts = await write(
        stub, document_write("d", "first text"), document_write("d", "second text")
    )
    assert [receipt.version for receipt in receipts] == [1, 2]
    response = await stub.SearchPassages(search_request(vector("d/first text/0")))
    assert [item.text for item in response.results[0].passages] == ["second "]


async def test_conditional_writes(stub: Stub) -> None:
    await create(stub)
    new, stale = document_write("d"), document_write("d")
    new.if_version = 0
    stale.if_version = 4
    request = pb.WriteDocumentsRequest(
        collection="books", writes=[new, stale, new], fingerprint=FINGERPRINT
    )
    outcomes = (await stub.WriteDocuments(request)).outcomes
    assert outcomes[0].receipt.version == 1
    for outcome in outcomes[1:]:
        error = fault(outcome.error)
        assert isinstance(error, Aborted)
        assert error.metadata == {"version": "1"}


async def test_unchanged_content_keeps_its_passages(stub: Stub) -> None:
    await create(stub)
    item = document_write("d", "some text")
    await write(stub, item)
    kept = pb.DocumentWrite(
        document=item.document, content_hash=item.content_hash, keep_passages=True
    )
    kept.document.metadata["new"].bool_value = True
    (receipt,) = await write(stub, kept)
    assert (receipt.version, receipt.unchanged, receipt.passages) == (2, True, 1)
    response = await stub.SearchPassages(search_request(item.passages[0].vector))
    (passage,) = response.results[0].passages
    assert (passage.version, passage.metadata["new"].bool_value) == (2, True)
    kept.content_hash = b"other"
    request = pb.WriteDocumentsRequest(collection="books", writes=[kept], fingerprint=FINGERPRINT)
    (outcome,) = (await stub.WriteDocuments(request)).outcomes
    error = fault(outcome.error)
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "CONTENT_CHANGED"


async def test_deleted_documents_are_not_found_again(stub: Stub) -> None:
    await create(stub)
    await write(stub, document_write("a"), document_write("b"))
    request = pb.RetrieverServiceDeleteDocumentsRequest(
        collection="books", document_ids=["a", "absent", "", "a"]
    )
    outcomes = (await stub.DeleteDocuments(request)).outcomes
    assert [outcome.existed for outcome in outcomes] == [True, False, False, False]
    assert field_of(fault(outcomes[2].error)) == "document_ids[2]"
    get = pb.RetrieverServiceGetDocumentRequest(collection="books", document_id="a")
    assert isinstance(await refusal(stub.GetDocument(get)), NotFound)
    response = await stub.SearchPassages(
        search_request(
            vector("a/one two/0"),
            consistency=common_pb2.CONSISTENCY_SESSION,
            consistency_tokens=[outcomes[0].consistency_token, outcomes[1].consistency_token],
        )
    )
    assert [item.document_id for item in response.results[0].passages] == ["b"]


async def test_writes_are_refused_while_building_is_far_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sealer, "start", lambda self: None)
    async with retriever(tmp_path, seal_vectors=16, max_full_segments=2) as stub:
        await create(stub, shards=1)
        await write(stub, *(document_write(f"a{at}") for at in range(16)))
        await write(stub, *(document_write(f"b{at}") for at in range(16)))
        request = pb.WriteDocumentsRequest(
            collection="books", writes=[document_write("c")], fingerprint=FINGERPRINT
        )
        error = await refusal(stub.WriteDocuments(request))
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "INDEX_BEHIND"
        assert error.retry_after is not None
