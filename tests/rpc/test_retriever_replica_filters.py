"""Filters on a read replica."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.replica_calls import Pair, paired, single
from tests.rpc.retriever_calls import Stub, create, refusal, search_request, vector, write


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with paired(tmp_path) as both:
        yield both


async def test_a_new_field_can_be_asked_for_at_once(pair: Pair) -> None:
    await create(pair.writer)
    await write(pair.writer, _of_year("d", 1999))
    asked = search_request(vector(1), filter=_year(1999))
    assert isinstance(await refusal(pair.replica.SearchPassages(asked)), InvalidArgument)
    await add_year(pair.writer)
    for year, documents in ((1999, 1), (2000, 0)):
        asked = search_request(vector(1), filter=_year(year))
        (result,) = (await pair.replica.SearchPassages(asked)).results
        assert len(result.passages) == documents


def _year(year: int) -> filter_pb2.Filter:
    value = document_pb2.MetadataValue(int64_value=year)
    return filter_pb2.Filter(equals=filter_pb2.EqualsCondition(field="year", value=value))


async def add_year(writer: Stub) -> None:
    changed = collection_pb2.Collection(name="books")
    changed.schema.add(name="year", type=filter_pb2.FIELD_TYPE_INTEGER)
    await writer.UpdateCollection(
        pb.RetrieverServiceUpdateCollectionRequest(
            collection=changed, update_mask=FieldMask(paths=["schema"])
        )
    )


def _of_year(document_id: str, year: int) -> pb.DocumentWrite:
    item = single(document_id, "one two")
    item.document.metadata["year"].int64_value = year
    return item


async def _found(stub: Stub, year: int) -> Sequence[str]:
    asked = search_request(vector(1), filter=_year(year), consistency=common_pb2.CONSISTENCY_STRONG)
    response = await stub.SearchPassages(asked)
    assert not response.coverage.missing_shards
    return sorted(item.document_id for item in response.results[0].passages)


async def test_new_documents_that_are_written_again_before_the_replica_looks_are_found(
    pair: Pair,
) -> None:
    """The log then has them behind documents that came after them."""
    await create(pair.writer, shards=1)
    await add_year(pair.writer)
    assert await _found(pair.replica, 1999) == []
    await write(pair.writer, _of_year("a", 1999), _of_year("b", 1999), _of_year("a", 2000))
    for stub in (pair.writer, pair.replica):
        assert await _found(stub, 1999) == ["b"]
        assert await _found(stub, 2000) == ["a"]
    await write(pair.writer, _of_year("c", 1999), _of_year("d", 2000), _of_year("c", 2000))
    for stub in (pair.writer, pair.replica):
        assert await _found(stub, 1999) == ["b"]
        assert await _found(stub, 2000) == ["a", "c", "d"]
