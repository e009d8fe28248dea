"""Metadata updates, documents with an end, and passages by id, over gRPC."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from sirdar.errors import Aborted, InvalidArgument, NotFound
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
    create,
    definition,
    document_write,
    fault,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
    write_fault,
)

Update = document_pb2.DocumentUpdate


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as stub:
        collection = definition("books")
        collection.schema.add(name="year", type=filter_pb2.FIELD_TYPE_INTEGER)
        await stub.CreateCollection(
            pb.RetrieverServiceCreateCollectionRequest(collection=collection)
        )
        yield stub


async def update(stub: Stub, *updates: Update) -> Sequence[document_pb2.WriteOutcome]:
    request = pb.RetrieverServiceUpdateDocumentsRequest(collection="books", updates=updates)
    return (await stub.UpdateDocuments(request)).outcomes


async def stored(stub: Stub, document_id: str) -> document_pb2.StoredDocument:
    request = pb.RetrieverServiceGetDocumentRequest(collection="books", document_id=document_id)
    return (await stub.GetDocument(request)).document


async def best(stub: Stub, item: pb.DocumentWrite, **changed: object) -> pb.PassageCandidates:
    request = search_request(item.passages[0].vector, **changed)
    (result,) = (await stub.SearchPassages(request)).results
    return result


def dated(document_id: str, year: int) -> pb.DocumentWrite:
    item = document_write(document_id)
    item.document.metadata["year"].int64_value = year
    return item


async def test_an_update_changes_metadata_alone_and_searches_show_it(
    stub: Stub, tmp_path: Path
) -> None:
    item = dated("d", 1990)
    item.document.metadata["gone"].bool_value = True
    await write(stub, item)
    change = Update(document_id="d", remove=["gone", "never there"], if_version=1)
    change.set["year"].int64_value = 1991
    change.set["new"].string_value = "x"
    (outcome,) = await update(stub, change)
    assert outcome.receipt.unchanged
    assert (outcome.receipt.version, outcome.receipt.passages) == (2, 1)
    found = await best(
        stub,
        item,
        consistency=common_pb2.CONSISTENCY_SESSION,
        consistency_tokens=[outcome.receipt.consistency_token],
    )
    (passage,) = found.passages
    assert sorted(passage.metadata) == ["new", "year"]
    assert passage.metadata["year"].int64_value == 1991
    assert (passage.version, passage.text) == (2, "one two")
    document = (await stored(stub, "d")).document
    assert dict(document.metadata) == dict(passage.metadata)


async def test_each_update_of_a_call_fails_alone(stub: Stub) -> None:
    await write(stub, dated("a", 1), dated("b", 2))
    stale = Update(document_id="a", remove=["year"], if_version=7)
    good = Update(document_id="b", remove=["year"])
    outcomes = await update(
        stub, stale, Update(document_id="absent", remove=["x"]), Update(document_id="a"), good
    )
    kinds = [type(fault(outcome.error)) for outcome in outcomes[:3]]
    assert kinds == [Aborted, NotFound, InvalidArgument]
    assert outcomes[3].receipt.version == 2
    assert [outcome.document_id for outcome in outcomes] == ["a", "absent", "a", "b"]
    assert not (await stored(stub, "b")).document.metadata
    assert (await stored(stub, "a")).receipt.version == 1


def _set(key: str, **value: object) -> Callable[[Update], None]:
    def change(message: Update) -> None:
        message.set[key].MergeFrom(document_pb2.MetadataValue(**value))  # type: ignore[arg-type]

    return change


def _many(message: Update) -> None:
    for at in range(64):
        message.set[f"more{at}"].bool_value = True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("year", string_value="1990"), "updates[0].set[year]"),
        (_set("k", string_value="nul\0"), "updates[0].set[k]"),
        (_set("k"), "updates[0].set[k]"),
        (_set("", bool_value=True), "updates[0].set"),
        (_many, "updates[0].set"),
        (_set("k", string_value="x" * 70_000), "updates[0].set"),
        (lambda message: None, "updates[0]"),
        (lambda message: message.remove.append("x" * 129), "updates[0].remove[0]"),
        (lambda message: message.remove.extend("x" * 65), "updates[0].remove"),
        (
            lambda message: (message.remove.append("k"), _set("k", bool_value=True)(message)),
            "updates[0].remove[0]",
        ),
        (lambda message: setattr(message, "never_expires", False), "updates[0].never_expires"),
        (lambda message: setattr(message.expires, "seconds", -1), "updates[0].expires"),
        (lambda message: setattr(message.expires, "seconds", 10**11), "updates[0].expires"),
    ],
)
async def test_a_bad_update_is_refused_by_its_path_and_changes_nothing(
    stub: Stub, change: Callable[[Update], object], field: str
) -> None:
    await write(stub, dated("d", 1990))
    message = Update(document_id="d")
    change(message)
    (outcome,) = await update(stub, message)
    error = fault(outcome.error)
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == field
    assert (await stored(stub, "d")).receipt.version == 1


@pytest.mark.parametrize("count", [0, 1001])
async def test_no_updates_and_too_many_are_refused(stub: Stub, count: int) -> None:
    error = await refusal(update(stub, *[Update(document_id="d", remove=["x"])] * count))
    assert field_of(error) == "updates"


async def test_metadata_must_have_the_types_of_the_schema(stub: Stub) -> None:
    bad = document_write("bad")
    bad.document.metadata["year"].string_value = "1990"
    assert field_of(await write_fault(stub, bad)) == "writes[1].document.metadata[year]"
    late = document_write("late")
    late.document.expires.seconds = 10**11
    assert field_of(await write_fault(stub, late)) == "writes[1].document.expires"


async def test_a_field_is_added_under_documents_that_have_it_with_another_type(stub: Stub) -> None:
    item = document_write("d")
    item.document.metadata["pages"].string_value = "many"
    await write(stub, item)
    request = pb.RetrieverServiceUpdateCollectionRequest(
        collection=collection_pb2.Collection(
            name="books",
            schema=[
                filter_pb2.FieldSchema(name="year", type=filter_pb2.FIELD_TYPE_INTEGER),
                filter_pb2.FieldSchema(name="pages", type=filter_pb2.FIELD_TYPE_INTEGER),
            ],
        )
    )
    request.update_mask.paths.append("schema")
    await stub.UpdateCollection(request)
    assert (await stored(stub, "d")).document.metadata["pages"].string_value == "many"
    assert field_of(await write_fault(stub, item)) == "writes[1].document.metadata[pages]"
    # An update of another field leaves what was there.
    change = Update(document_id="d")
    change.set["year"].int64_value = 1990
    (outcome,) = await update(stub, change)
    assert outcome.receipt.version == 2
    del request.collection.schema[0]
    error = await refusal(stub.UpdateCollection(request))
    assert (field_of(error), error.reason) == ("collection.schema", "IMMUTABLE_FIELD")


async def test_an_expired_document_is_found_by_nobody_and_swept(stub: Stub) -> None:
    brief, long = document_write("brief"), document_write("long")
    brief.document.expires.GetCurrentTime()
    long.document.expires.seconds = int(time.time()) + 10_000
    await write(stub, brief, long)
    for changed in ({}, {"ids_only": True}, {"documents_with_text": 1}):
        result = await best(stub, brief, **changed)
        assert len(result.dense or result.dense_ids.passage_ids) == 1
    words = search_request(
        queries=[pb.PassageQuery(lexical="two")], consistency=common_pb2.CONSISTENCY_STRONG
    )
    (result,) = (await stub.SearchPassages(words)).results
    assert [passage.document_id for passage in result.passages] == ["long"]
    assert (await stored(stub, "long")).document.expires == long.document.expires
    assert isinstance(await refusal(stored(stub, "brief")), NotFound)
    get = pb.RetrieverServiceGetCollectionRequest(name="books")
    while (await stub.GetCollection(get)).collection.documents > 1:
        pass
    (outcome,) = await update(stub, Update(document_id="long", never_expires=True))
    assert outcome.receipt.version == 2
    assert not (await stored(stub, "long")).document.HasField("expires")


def ids_of(result: pb.PassageCandidates) -> list[int]:
    assert not (result.passages or result.dense or result.lexical)
    return list(result.dense_ids.passage_ids)


async def test_ids_alone_are_answered_and_their_passages_fetched(stub: Stub) -> None:
    items = [document_write(f"d{at}", spans=((0, 3), (4, 7))) for at in range(5)]
    await write(stub, *items)
    full = await best(stub, items[3])
    only = await best(stub, items[3], ids_only=True)
    assert list(only.dense_ids.scores) == [candidate.score for candidate in full.dense]
    ids = ids_of(only)
    request = pb.FetchPassagesRequest(collection="books", passage_ids=[*ids, ids[0], 999_999])
    fetched = (await stub.FetchPassages(request)).passages
    assert [item.passage_id for item in fetched] == ids
    assert [item.passage for item in fetched] == [
        full.passages[candidate.passage] for candidate in full.dense
    ]
    await write(stub, document_write("d3", "one two three"))
    again = (await stub.FetchPassages(request)).passages
    assert {item.passage.document_id for item in again} == {"d0", "d1", "d2", "d4"}


async def test_ids_of_words_are_answered_alone(stub: Stub) -> None:
    whole = [(0, 11)]
    await write(
        stub,
        document_write("a", "the red fox", spans=whole),
        document_write("b", "the red hen", spans=whole),
    )
    request = search_request(
        vector(1),
        queries=[pb.PassageQuery(lexical="fox"), pb.PassageQuery(vector=vector(1), lexical="red")],
        ids_only=True,
        consistency=common_pb2.CONSISTENCY_STRONG,
    )
    fox, red = (await stub.SearchPassages(request)).results
    assert (len(ids_of(fox)), len(fox.lexical_ids.passage_ids)) == (0, 1)
    assert (len(ids_of(red)), len(red.lexical_ids.scores)) == (2, 2)


async def test_passages_of_another_collection_are_not_fetched(stub: Stub) -> None:
    await create(stub, "other")
    await write(stub, document_write("secret"), collection="other")
    request = pb.FetchPassagesRequest(collection="books", passage_ids=[1, 2, 3])
    assert not (await stub.FetchPassages(request)).passages
    request.collection = "other"
    assert len((await stub.FetchPassages(request)).passages) == 1


@pytest.mark.parametrize("count", [0, 10_001])
async def test_no_passage_ids_and_too_many_are_refused(stub: Stub, count: int) -> None:
    request = pb.FetchPassagesRequest(collection="books", passage_ids=[1] * count)
    assert field_of(await refusal(stub.FetchPassages(request))) == "passage_ids"
