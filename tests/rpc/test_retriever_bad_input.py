"""What RetrieverService refuses, with which error and which field."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import FailedPrecondition, InvalidArgument, NotFound
from sirdar.v1 import collection_pb2, common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    DIMENSIONS,
    FINGERPRINT,
    Stub,
    as_vector,
    create,
    definition,
    document_write,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
    write_fault,
)

MAX_DOCUMENT_BYTES = 4096


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path, max_document_bytes=MAX_DOCUMENT_BYTES) as running:
        await create(running)
        yield running


def with_vector(value: common_pb2.Vector) -> Callable[[pb.DocumentWrite], None]:
    return lambda item: item.passages[0].vector.CopyFrom(value)


def with_text(text: str, title: str = "") -> Callable[[pb.DocumentWrite], None]:
    def change(item: pb.DocumentWrite) -> None:
        item.document.text, item.document.title = text, title

    return change


def with_id(value: str) -> Callable[[pb.DocumentWrite], None]:
    def change(item: pb.DocumentWrite) -> None:
        item.document.id = value

    return change


def with_spans(*spans: tuple[int, int]) -> Callable[[pb.DocumentWrite], None]:
    def change(item: pb.DocumentWrite) -> None:
        passages = document_write("d", item.document.text, spans=spans).passages
        del item.passages[:]
        item.passages.extend(passages)

    return change


def with_metadata(key: str, value: str | None) -> Callable[[pb.DocumentWrite], None]:
    def change(item: pb.DocumentWrite) -> None:
        if value is None:
            item.document.metadata[key].SetInParent()
        else:
            item.document.metadata[key].string_value = value

    return change


def with_many_keys(item: pb.DocumentWrite) -> None:
    for at in range(65):
        item.document.metadata[f"key{at}"].int64_value = at


def kept_with_passages(item: pb.DocumentWrite) -> None:
    item.keep_passages = True


def kept_without_hash(item: pb.DocumentWrite) -> None:
    item.keep_passages = True
    item.content_hash = b""
    del item.passages[:]


WRONG_SIZE = common_pb2.Vector(data=b"1234", dtype=common_pb2.DTYPE_FLOAT32, dimensions=DIMENSIONS)
WITHOUT_DTYPE = common_pb2.Vector(data=bytes(64), dimensions=DIMENSIONS)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (with_id(""), "document.id"),
        (with_id("x" * 513), "document.id"),
        (with_id("ä" * 257), "document.id"),
        (with_id("a\0b"), "document.id"),
        (with_text(""), "document.text"),
        (with_text("one\0two"), "document.text"),
        (with_text("one two", "a\0title"), "document.title"),
        (with_text("x" * (MAX_DOCUMENT_BYTES + 1)), "document.text"),
        (with_text("🙂" * (MAX_DOCUMENT_BYTES // 4), "title"), "document.text"),
        (with_spans(), "passages"),
        (with_spans((0, 8)), "passages[0].span"),
        (with_spans((3, 3)), "passages[0].span"),
        (with_spans((-1, 3)), "passages[0].span"),
        (with_spans((0, 7), (4, 7), (2, 7)), "passages[2].span"),
        (with_vector(as_vector(np.ones(DIMENSIONS + 1, "<f4"))), "passages[0].vector.dimensions"),
        (with_vector(WRONG_SIZE), "passages[0].vector.data"),
        (with_vector(WITHOUT_DTYPE), "passages[0].vector.dtype"),
        (with_vector(as_vector(np.full(DIMENSIONS, np.nan, "<f4"))), "passages[0].vector"),
        (with_vector(as_vector(np.full(DIMENSIONS, np.inf, "<f2"))), "passages[0].vector"),
        (with_vector(as_vector(np.zeros(DIMENSIONS, "<f4"))), "passages[0].vector"),
        (with_metadata("", "x"), "document.metadata"),
        (with_metadata("k" * 129, "x"), "document.metadata"),
        (with_metadata("k\0", "x"), "document.metadata"),
        (with_metadata("k", "x\0"), "document.metadata[k]"),
        (with_metadata("k", None), "document.metadata[k]"),
        (with_metadata("k", "x" * 70_000), "document.metadata"),
        (with_many_keys, "document.metadata"),
        (kept_with_passages, "passages"),
        (kept_without_hash, "content_hash"),
    ],
)
async def test_a_bad_write_fails_alone_and_names_its_field(
    stub: Stub, change: Callable[[pb.DocumentWrite], None], field: str
) -> None:
    item = document_write("bad")
    change(item)
    error = await write_fault(stub, item)
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == f"writes[1].{field}"


async def test_components_beyond_float16_are_refused(stub: Stub) -> None:
    await create(stub, "dots", similarity=collection_pb2.SIMILARITY_DOT)
    item = document_write("d")
    item.passages[0].vector.CopyFrom(as_vector(np.full(DIMENSIONS, 1e5, "<f4")))
    request = pb.WriteDocumentsRequest(collection="dots", writes=[item], fingerprint=FINGERPRINT)
    (outcome,) = (await stub.WriteDocuments(request)).outcomes
    assert "65504" in outcome.error.message


async def test_extreme_lengths_are_fine_under_cosine(stub: Stub) -> None:
    for name, scale in (("tiny", 1e-38), ("huge", 1e37)):
        item = document_write(name)
        item.passages[0].vector.CopyFrom(as_vector(np.full(DIMENSIONS, scale, "<f4")))
        await write(stub, item)
    request = search_request(as_vector(np.ones(DIMENSIONS, "<f4")))
    (result,) = (await stub.SearchPassages(request)).results
    assert [item.score for item in result.dense] == [pytest.approx(1, abs=1e-3)] * 2


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"queries": []}, "queries"),
        ({"queries": [pb.PassageQuery(vector=vector(1))] * 257}, "queries"),
        ({"queries": [pb.PassageQuery()]}, "queries[0].vector"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": -1}, "candidates"),
        ({"candidates": 10_001}, "candidates"),
        ({"shards": [0, 4]}, "shards[1]"),
        ({"shards": [-1]}, "shards[0]"),
        ({"consistency": 9}, "consistency"),
        ({"consistency_tokens": ["nonsense"]}, "consistency_tokens[0]"),
        ({"consistency_tokens": ["äöü"]}, "consistency_tokens[0]"),
        ({"collection": "Not a name"}, "collection"),
        ({"namespace": "9"}, "namespace"),
    ],
)
async def test_a_bad_search_names_its_field(
    stub: Stub, changed: dict[str, object], field: str
) -> None:
    error = await refusal(stub.SearchPassages(search_request(vector(1), **changed)))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == field


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.ones(DIMENSIONS - 1, "<f4"), "queries[1].vector.dimensions"),
        (np.full(DIMENSIONS, np.nan, "<f4"), "queries[1].vector"),
        (np.full(DIMENSIONS, -np.inf, "<f2"), "queries[1].vector"),
        (np.zeros(DIMENSIONS, "<f4"), "queries[1].vector"),
    ],
)
async def test_a_bad_query_vector_names_its_field(
    stub: Stub, array: np.ndarray, field: str
) -> None:
    error = await refusal(stub.SearchPassages(search_request(vector(1), as_vector(array))))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == field


async def test_vectors_of_another_space_are_refused(stub: Stub) -> None:
    search = search_request(vector(1), fingerprint="other")
    item = pb.WriteDocumentsRequest(
        collection="books", writes=[document_write("d")], fingerprint="other"
    )
    for call in (stub.SearchPassages(search), stub.WriteDocuments(item)):
        error = await refusal(call)
        assert isinstance(error, FailedPrecondition)
        assert error.reason == "SPACE_MISMATCH"
    assert len((await stub.SearchPassages(search_request(vector(1)))).results[0].passages) == 0


async def test_unknown_collections_are_not_found(stub: Stub) -> None:
    named = {"collection": "absent"}
    for call in (
        stub.SearchPassages(search_request(vector(1), **named)),
        stub.GetCollection(pb.RetrieverServiceGetCollectionRequest(name="absent")),
        stub.ListDocuments(pb.RetrieverServiceListDocumentsRequest(collection="absent")),
        stub.CheckDocuments(pb.CheckDocumentsRequest(collection="absent", document_ids=["d"])),
        stub.WriteDocuments(
            pb.WriteDocumentsRequest(collection="absent", writes=[document_write("d")])
        ),
        stub.DeleteDocuments(
            pb.RetrieverServiceDeleteDocumentsRequest(collection="absent", document_ids=["d"])
        ),
    ):
        error = await refusal(call)
        assert isinstance(error, NotFound)
        assert error.reason == "COLLECTION_NOT_FOUND"


@pytest.mark.parametrize("size", [0, -1, 1001])
async def test_page_sizes_out_of_range(stub: Stub, size: int) -> None:
    for call in (
        stub.ListDocuments(
            pb.RetrieverServiceListDocumentsRequest(collection="books", page_size=size)
        ),
        stub.ListCollections(pb.RetrieverServiceListCollectionsRequest(page_size=size)),
    ):
        assert field_of(await refusal(call)) == "page_size"


async def test_batches_out_of_range(stub: Stub) -> None:
    ids = [f"d{at}" for at in range(1001)]
    for count in (0, 1001):
        for call, field in (
            (
                stub.WriteDocuments(
                    pb.WriteDocumentsRequest(
                        collection="books",
                        writes=[document_write("d")] * count,
                        fingerprint=FINGERPRINT,
                    )
                ),
                "writes",
            ),
            (
                stub.DeleteDocuments(
                    pb.RetrieverServiceDeleteDocumentsRequest(
                        collection="books", document_ids=ids[:count]
                    )
                ),
                "document_ids",
            ),
        ):
            assert field_of(await refusal(call)) == field


WITHOUT_DIMENSIONS = common_pb2.EmbeddingSpace(fingerprint="print")
WITHOUT_FINGERPRINT = common_pb2.EmbeddingSpace(dimensions=8)


def named(name: str, namespace: str = "") -> collection_pb2.Collection:
    collection = definition(name)
    collection.namespace = namespace
    return collection


@pytest.mark.parametrize(
    ("collection", "field"),
    [
        (named(""), "name"),
        (named("x" * 64), "name"),
        (named("Upper"), "name"),
        (named("1st"), "name"),
        (named("fine\n"), "name"),
        (named("fine", "Not fine"), "namespace"),
        (definition("fine", shards=65), "generation.shards"),
        (definition("fine", shards=-1), "generation.shards"),
        (definition("fine", index_kind="magic"), "generation.index_kind"),
        (definition("fine", similarity=7), "generation.similarity"),
        (
            definition("fine", space=common_pb2.EmbeddingSpace(fingerprint="x")),
            "generation.space.dimensions",
        ),
        (
            definition("fine", space=common_pb2.EmbeddingSpace(dimensions=8)),
            "generation.space.fingerprint",
        ),
    ],
)
async def test_a_bad_definition_names_its_field(
    stub: Stub, collection: collection_pb2.Collection, field: str
) -> None:
    request = pb.RetrieverServiceCreateCollectionRequest(collection=collection)
    error = await refusal(stub.CreateCollection(request))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == f"collection.{field}"
