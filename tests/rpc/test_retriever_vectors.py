"""Stored vectors in the retriever's answers."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sirdar.errors import InvalidArgument, NotFound
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    DIMENSIONS,
    FINGERPRINT,
    Stub,
    as_vector,
    create,
    document_write,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)

TEXT = "one two three"
SPANS = ((0, 7), (4, 13), (8, 13))


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path, max_message_bytes=2**16) as running:
        await create(running)
        yield running


def get(document_id: str, *, with_vectors: bool = True) -> pb.RetrieverServiceGetDocumentRequest:
    return pb.RetrieverServiceGetDocumentRequest(
        collection="books", document_id=document_id, with_vectors=with_vectors
    )


def stored(given: common_pb2.Vector) -> NDArray[np.float16]:
    """What the store keeps of a vector."""
    array = np.frombuffer(given.data, "<f4")
    unit: NDArray[np.float32] = array / np.linalg.norm(array)
    return unit.astype(np.float16)


def read(answered: common_pb2.Vector) -> NDArray[np.float16]:
    assert (answered.dtype, answered.dimensions) == (common_pb2.DTYPE_FLOAT16, DIMENSIONS)
    return np.frombuffer(answered.data, "<f2")


async def test_a_document_comes_with_its_passages_and_their_vectors(stub: Stub) -> None:
    item = document_write("d", TEXT, spans=SPANS)
    await write(stub, document_write("other"), item)
    answer = await stub.GetDocument(get("d"))
    assert answer.document.document.text == TEXT
    assert answer.fingerprint == FINGERPRINT
    assert tuple((part.span.start, part.span.end) for part in answer.passages) == SPANS
    for part, given in zip(answer.passages, item.passages, strict=True):
        np.testing.assert_allclose(read(part.vector), stored(given.vector), atol=1e-3)

    bare = await stub.GetDocument(get("d", with_vectors=False))
    assert (len(bare.passages), bare.fingerprint) == (0, "")
    await write(stub, document_write("d", "now this"))
    assert len((await stub.GetDocument(get("d"))).passages) == 1
    assert isinstance(await refusal(stub.GetDocument(get("none"))), NotFound)


async def test_searches_give_the_vectors_of_what_has_text(stub: Stub) -> None:
    items = [document_write(f"d{at}", TEXT, spans=SPANS) for at in range(4)]
    await write(stub, *items)
    vectors = {item.document.id: item.passages for item in items}
    query = items[2].passages[1].vector
    for words, with_text in (("", None), ("two", None), ("", 1), ("two", 2)):
        request = search_request(with_vectors=True, consistency=common_pb2.CONSISTENCY_STRONG)
        request.queries.add(vector=query, lexical=words)
        if with_text is not None:
            request.documents_with_text = with_text
        (result,) = (await stub.SearchPassages(request)).results
        assert (
            len({passage.document_id for passage in result.passages if passage.text})
            == (with_text or 4)
            or words
        ), "the two lists have best documents of their own"
        for passage in result.passages:
            assert passage.HasField("vector") == bool(passage.text)
            if passage.text:
                given = vectors[passage.document_id][passage.index].vector
                np.testing.assert_allclose(read(passage.vector), stored(given), atol=1e-3)
        request.with_vectors = False
        (plain,) = (await stub.SearchPassages(request)).results
        assert not any(passage.HasField("vector") for passage in plain.passages)


async def test_no_vectors_come_with_ids_alone(stub: Stub) -> None:
    await write(stub, document_write("d"))
    request = search_request(vector(1), with_vectors=True, ids_only=True)
    (result,) = (await stub.SearchPassages(request)).results
    assert (len(result.dense_ids.passage_ids), len(result.passages)) == (1, 0)


async def test_vectors_beyond_a_message_are_refused_before_they_are_read(stub: Stub) -> None:
    await create(stub, "wide", space=_wide(4096))
    writes = []
    for at in range(10):
        item = document_write(f"d{at}")
        item.passages[0].vector.CopyFrom(as_vector(np.eye(4096, dtype=np.float32)[at]))
        writes.append(item)
    for item in writes:
        request = pb.WriteDocumentsRequest(
            collection="wide", writes=[item], fingerprint=FINGERPRINT
        )
        await stub.WriteDocuments(request)
    search = search_request(
        as_vector(np.ones(4096, np.float16)), collection="wide", with_vectors=True
    )
    error = await refusal(stub.SearchPassages(search))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == "candidates"
    assert "81920 bytes" in error.message
    search.documents_with_text = 2
    (result,) = (await stub.SearchPassages(search)).results
    assert sum(passage.HasField("vector") for passage in result.passages) == 2


def _wide(dimensions: int) -> common_pb2.EmbeddingSpace:
    return common_pb2.EmbeddingSpace(
        model=common_pb2.ModelRef(name="model"), dimensions=dimensions, fingerprint=FINGERPRINT
    )
