"""Data folders written by earlier formats open, and what was in them is there and is found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.retriever.store.sqlite.schema import FORMAT_VERSION
from sirdar.v1 import common_pb2, document_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.archives import unpack
from tests.retriever_fixture import FOLDER
from tests.rpc.retriever_calls import (
    DIMENSIONS,
    Stub,
    as_vector,
    document_write,
    retriever,
    search_request,
    write,
)

EARLIER = range(1, FORMAT_VERSION)


def unpacked(version: int, folder: Path) -> dict[str, Any]:
    unpack(FOLDER / f"retriever-format-{version}.tar.gz", folder)
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return expected


async def stored(stub: Stub, collection: str) -> dict[str, document_pb2.StoredDocument]:
    request = pb.RetrieverServiceListDocumentsRequest(collection=collection, page_size=1000)
    answer = await stub.ListDocuments(request)
    assert not answer.next_page_token
    return {item.document.id: item for item in answer.documents}


def vector_of(expected: str) -> common_pb2.Vector:
    data = bytes.fromhex(expected)
    dtype = "<f2" if len(data) == 2 * DIMENSIONS else "<f4"
    return as_vector(np.frombuffer(data, dtype))


async def best(stub: Stub, collection: str, passages: list[str], **changed: object) -> list[str]:
    """The document of the best passage for each of these vectors."""
    request = search_request(*map(vector_of, passages), collection=collection, **changed)
    results = (await stub.SearchPassages(request)).results
    return [result.passages[result.dense[0].passage].document_id for result in results]


@pytest.mark.parametrize("version", EARLIER)
async def test_a_folder_of_an_earlier_format_opens_and_has_everything(
    version: int, tmp_path: Path
) -> None:
    expected = unpacked(version, tmp_path)
    async with retriever(tmp_path) as stub:
        for collection, documents in expected.items():
            found = await stored(stub, collection)
            assert sorted(found) == sorted(documents)
            for document_id, wanted in documents.items():
                item = found[document_id]
                assert item.document.text == wanted["text"]
                assert item.receipt.version == wanted["version"]
                assert item.receipt.passages == wanted["passages"]
                assert not item.document.HasField("expires")
                if "metadata" in wanted:
                    assert item.document == document_pb2.Document.FromString(
                        bytes.fromhex(wanted["metadata"])
                    )
            ids = sorted(documents)
            vectors = [documents[document_id]["vectors"][-1] for document_id in ids]
            assert await best(stub, collection, vectors, exact=True) == ids
            assert await best(stub, collection, vectors) == ids


@pytest.mark.parametrize("version", EARLIER)
async def test_what_is_new_works_in_a_folder_of_an_earlier_format(
    version: int, tmp_path: Path
) -> None:
    unpacked(version, tmp_path)
    async with retriever(tmp_path) as stub:
        update = pb.RetrieverServiceUpdateCollectionRequest()
        update.collection.name = "books"
        update.collection.schema.add(name="year", type=filter_pb2.FIELD_TYPE_INTEGER)
        update.update_mask.paths.append("schema")
        updated = (await stub.UpdateCollection(update)).collection
        assert [field.name for field in updated.schema] == ["year"]
        kept = document_write("kept", "stays for long")
        kept.document.expires.seconds = 9_000_000_000
        await write(stub, kept)
    async with retriever(tmp_path) as stub:
        item = (await stored(stub, "books"))["kept"]
        assert item.document.expires.seconds == 9_000_000_000
        get = pb.RetrieverServiceGetCollectionRequest(name="books")
        assert (await stub.GetCollection(get)).collection.schema == updated.schema


async def test_the_words_of_earlier_formats_are_found(tmp_path: Path) -> None:
    expected = unpacked(2, tmp_path)["books"]
    async with retriever(tmp_path) as stub:
        request = search_request(
            queries=[pb.PassageQuery(lexical="second")],
            candidates=100,
            consistency=common_pb2.CONSISTENCY_STRONG,
        )
        (result,) = (await stub.SearchPassages(request)).results
        found = {result.passages[item.passage].document_id for item in result.lexical}
        assert found == {
            document_id for document_id, item in expected.items() if "second" in item["text"]
        }
