"""Filtered searches and deletions over gRPC, and filters that are wrong."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.retriever.filters.requests import MAX_LEVELS, MAX_VALUES
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, common_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.filter_pb2 import Filter
from tests.rpc.retriever_calls import (
    Stub,
    definition,
    document_write,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)

TYPES = {
    "kind": filter_pb2.FIELD_TYPE_KEYWORD,
    "tags": filter_pb2.FIELD_TYPE_KEYWORD_LIST,
    "rank": filter_pb2.FIELD_TYPE_INTEGER,
    "price": filter_pb2.FIELD_TYPE_FLOAT,
    "old": filter_pb2.FIELD_TYPE_BOOLEAN,
    "made": filter_pb2.FIELD_TYPE_TIMESTAMP,
    "notes": filter_pb2.FIELD_TYPE_TEXT,
}


BOOKS = pb.RetrieverServiceGetCollectionRequest(name="books")


def with_schema(name: str = "books") -> collection_pb2.Collection:
    made = definition(name)
    made.schema.extend(filter_pb2.FieldSchema(name=key, type=type_) for key, type_ in TYPES.items())
    return made


def ranked(number: int) -> pb.DocumentWrite:
    item = document_write(f"d{number}", "one two" if number % 2 else "one three")
    item.document.metadata["rank"].int64_value = number
    return item


def equals(field: str, **value: object) -> Filter:
    made = Filter()
    made.equals.field = field
    made.equals.value.CopyFrom(MetadataValue(**value))  # type: ignore[arg-type]
    return made


def below(rank: int) -> Filter:
    made = Filter()
    made.range.field = "rank"
    made.range.less_than.int64_value = rank
    return made


def nested(levels: int) -> Filter:
    made = equals("rank", int64_value=1)
    for _ in range(levels - 1):
        outer = Filter()
        outer.none_of.filters.append(made)
        made = outer
    return made


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as connected:
        request = pb.RetrieverServiceCreateCollectionRequest(collection=with_schema())
        await connected.CreateCollection(request)
        yield connected


async def found(stub: Stub, **changed: object) -> list[set[str]]:
    """Ids of dense and of lexical candidates."""
    query = pb.PassageQuery(vector=vector(1), lexical="one two three")
    answer = await stub.SearchPassages(search_request(**({"queries": [query]} | changed)))
    (result,) = answer.results
    names = [item.document_id for item in result.passages]
    return [{names[item.passage] for item in part} for part in (result.dense, result.lexical)]


async def test_vectors_and_words_are_searched_among_what_meets_the_filter(stub: Stub) -> None:
    await write(stub, *(ranked(at) for at in range(40)))
    strong = {"consistency": common_pb2.CONSISTENCY_STRONG}
    for exact in (False, True):
        dense, lexical = await found(stub, filter=below(3), exact=exact, **strong)
        assert dense == lexical == {"d0", "d1", "d2"}
    changed = ranked(1)
    changed.document.metadata["rank"].int64_value = 100
    await write(stub, changed)
    dense, lexical = await found(stub, filter=below(3), **strong)
    assert dense == lexical == {"d0", "d2"}
    assert await found(stub, filter=below(-5), **strong) == [set(), set()]


async def test_filters_answer_the_same_after_a_restart(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        request = pb.RetrieverServiceCreateCollectionRequest(collection=with_schema())
        await stub.CreateCollection(request)
        await write(stub, *(ranked(at) for at in range(20)))
        before = await found(stub, filter=below(5), queries=[pb.PassageQuery(vector=vector(1))])
    async with retriever(tmp_path) as stub:
        query = [pb.PassageQuery(vector=vector(1))]
        assert await found(stub, filter=below(5), queries=query) == before
        assert before[0] == {f"d{at}" for at in range(5)}


async def test_deleting_by_filter(stub: Stub) -> None:
    await write(stub, *(ranked(at) for at in range(40)))
    request = pb.RetrieverServiceDeleteByFilterRequest(collection="books", filter=below(10))
    request.count_only = True
    counted = await stub.DeleteByFilter(request)
    assert (counted.documents, list(counted.consistency_tokens)) == (10, [])
    request.count_only = False
    done = await stub.DeleteByFilter(request)
    assert done.documents == 10
    dense, _ = await found(
        stub,
        candidates=100,
        consistency=common_pb2.CONSISTENCY_SESSION,
        consistency_tokens=list(done.consistency_tokens),
    )
    assert dense == {f"d{at}" for at in range(10, 40)}
    assert (await stub.DeleteByFilter(request)).documents == 0
    missing = pb.RetrieverServiceDeleteByFilterRequest(collection="books")
    assert field_of(await refusal(stub.DeleteByFilter(missing))) == "filter"


async def test_deleting_by_filter_from_some_shards(stub: Stub) -> None:
    await write(stub, *(ranked(at) for at in range(40)))
    request = pb.RetrieverServiceDeleteByFilterRequest(collection="books", filter=below(20))
    shards = range((await stub.GetCollection(BOOKS)).collection.generation.shards)
    deleted = []
    for shard in shards:
        request.shards[:] = [shard]
        deleted.append((await stub.DeleteByFilter(request)).documents)
    assert sum(deleted) == 20
    assert max(deleted) < 20
    request.shards[:] = [0, len(shards)]
    error = await refusal(stub.DeleteByFilter(request))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == "shards[1]"


def many_values() -> Filter:
    made = Filter()
    made.one_of.field = "rank"
    made.one_of.values.extend(MetadataValue(int64_value=at) for at in range(100_000))
    return made


def spread_values() -> Filter:
    made = Filter()
    for _ in range(4):
        made.any_of.filters.add().one_of.field = "rank"
        made.any_of.filters[-1].one_of.values.extend(
            MetadataValue(int64_value=at) for at in range(MAX_VALUES // 3)
        )
    return made


def ranged(field: str, **bounds: MetadataValue) -> Filter:
    return Filter(range=filter_pb2.RangeCondition(field=field, **bounds))


TEN = MetadataValue(int64_value=10)
NO_TIME = MetadataValue()
NO_TIME.timestamp_value.nanos = -1


@pytest.mark.parametrize(
    ("made", "field", "says"),
    [
        (Filter(), "filter", "condition"),
        (equals("colour", string_value="red"), "filter.equals.field", "kind"),
        (equals("kind", int64_value=1), "filter.equals.value", "string_value"),
        (equals("kind"), "filter.equals.value", "empty"),
        (equals("rank", double_value=1.5), "filter.equals.value", "int64_value"),
        (equals("old", int64_value=1), "filter.equals.value", "bool_value"),
        (equals("price", double_value=float("nan")), "filter.equals.value", "NaN"),
        (equals("notes", string_value="x"), "filter.equals.field", "contains"),
        (Filter(all_of=filter_pb2.FilterList()), "filter.all_of.filters", "one"),
        (Filter(any_of=filter_pb2.FilterList()), "filter.any_of.filters", "one"),
        (Filter(none_of=filter_pb2.FilterList()), "filter.none_of.filters", "one"),
        (
            Filter(any_of=filter_pb2.FilterList(filters=[below(1), equals("no", bool_value=True)])),
            "filter.any_of.filters[1].equals.field",
            "'no'",
        ),
        (
            Filter(one_of=filter_pb2.OneOfCondition(field="kind")),
            "filter.one_of.values",
            "one value",
        ),
        (
            Filter(one_of=filter_pb2.OneOfCondition(field="rank", values=[TEN, MetadataValue()])),
            "filter.one_of.values[1]",
            "int64_value",
        ),
        (
            Filter(one_of=filter_pb2.OneOfCondition(field="notes", values=[TEN])),
            "filter.one_of.field",
            "text",
        ),
        (ranged("rank"), "filter.range", "bound"),
        (ranged("rank", at_least=TEN, greater_than=TEN), "filter.range.greater_than", "at_least"),
        (ranged("rank", at_most=MetadataValue(string_value="9")), "filter.range.at_most", "int64"),
        (
            ranged("price", less_than=MetadataValue(double_value=float("nan"))),
            "filter.range.less_than",
            "NaN",
        ),
        (ranged("made", less_than=NO_TIME), "filter.range.less_than", "9999"),
        (ranged("old", at_least=TEN), "filter.range.field", "boolean"),
        (ranged("tags", at_least=TEN), "filter.range.field", "keyword_list"),
        (ranged("notes", at_least=TEN), "filter.range.field", "text"),
        (
            Filter(exists=filter_pb2.ExistsCondition(field="no")),
            "filter.exists.field",
            "schema",
        ),
        (
            Filter(contains=filter_pb2.ContainsCondition(field="kind", text="x")),
            "filter.contains.field",
            "equals",
        ),
        (
            Filter(contains=filter_pb2.ContainsCondition(field="notes", text=" ")),
            "filter.contains.text",
            "word",
        ),
        (many_values(), "filter.one_of.values", str(MAX_VALUES)),
        (spread_values(), "filter.any_of.filters[3].one_of.values", str(MAX_VALUES)),
        (
            nested(MAX_LEVELS + 1),
            "filter",
            str(MAX_LEVELS),
        ),
    ],
)
async def test_a_bad_filter_names_its_part_and_the_fix(
    stub: Stub, made: Filter, field: str, says: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: stub.SearchPassages(search_request(vector(1), filter=made)),
        lambda: stub.DeleteByFilter(
            pb.RetrieverServiceDeleteByFilterRequest(collection="books", filter=made)
        ),
    ]
    for call in calls:
        error = await refusal(call())  # type: ignore[arg-type]
        assert isinstance(error, InvalidArgument)
        assert field_of(error) == field
        assert says in error.message


async def test_the_deepest_filter_that_is_allowed(stub: Stub) -> None:
    await write(stub, ranked(1), ranked(2))
    dense, _ = await found(stub, filter=nested(MAX_LEVELS))
    # An odd number of negations around "rank is 1".
    assert dense == {"d2"}


@pytest.mark.parametrize("levels", [100, 100_000])
async def test_a_filter_too_deep_to_be_read_is_refused(stub: Stub, levels: int) -> None:
    """Neither side's protobuf makes such a message, so its bytes are put together by hand."""
    parts: list[bytes] = []
    size = 0
    for _ in range(2 * levels):
        # Field 1 of Filter (all_of) and of FilterList (filters) alike.
        parts.append(b"\x0a" + _varint(size))
        size += len(parts[-1])
    data = b"".join(reversed(parts))
    request = search_request(vector(1)).SerializeToString() + b"\x5a" + _varint(len(data)) + data
    call = stub.SearchPassages
    raw = type("Raw", (), {"SerializeToString": lambda self: request})()
    error = await refusal(_send(call, raw))
    assert isinstance(error, InvalidArgument)
    assert error.reason == "UNREADABLE_REQUEST"


async def _send(call: Callable[..., object], raw: object) -> object:
    call._request_serializer = lambda item: item.SerializeToString()  # type: ignore[attr-defined]
    return await call(raw)  # type: ignore[misc]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
