"""The schema of a collection's metadata, and metadata that must follow it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.retriever.metadata import MetadataRules
from services.retriever.schema import messages, schema
from services.retriever.store.records import CollectionUpdate, FieldSchema, FieldType
from services.retriever.store.sqlite.store import SqliteStore
from sirdar.errors import InvalidArgument
from sirdar.v1.document_pb2 import MetadataValue, StringList
from sirdar.v1.filter_pb2 import FIELD_TYPE_KEYWORD
from sirdar.v1.filter_pb2 import FieldSchema as Message
from tests.retriever_data import Log, definition

YEAR = FieldSchema("year", FieldType.INTEGER)
TAGS = FieldSchema("tags", FieldType.KEYWORD_LIST)

VALUES = {
    "string_value": MetadataValue(string_value="x"),
    "string_list": MetadataValue(string_list=StringList(values=["x"])),
    "int64_value": MetadataValue(int64_value=1),
    "double_value": MetadataValue(double_value=0.5),
    "bool_value": MetadataValue(bool_value=False),
    "timestamp_value": MetadataValue(timestamp_value=Timestamp(seconds=1)),
}
TAKEN = {
    FieldType.KEYWORD: {"string_value"},
    FieldType.KEYWORD_LIST: {"string_list"},
    FieldType.INTEGER: {"int64_value"},
    FieldType.FLOAT: {"int64_value", "double_value"},
    FieldType.BOOLEAN: {"bool_value"},
    FieldType.TIMESTAMP: {"timestamp_value"},
    FieldType.TEXT: {"string_value"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.sqlite3", Log(), max_waiting_bytes=2**24)
    yield opened
    opened.close()


@pytest.mark.parametrize("type_", FieldType)
@pytest.mark.parametrize("kind", VALUES)
def test_a_field_of_the_schema_takes_values_of_its_type(type_: FieldType, kind: str) -> None:
    rules = MetadataRules([FieldSchema("field", type_)])
    metadata = {"field": VALUES[kind], "other": VALUES["bool_value"]}
    if kind in TAKEN[type_]:
        assert rules.stored(metadata, "metadata")
        return
    with pytest.raises(InvalidArgument) as refusal:
        rules.stored(metadata, "metadata")
    (violation,) = refusal.value.fields
    assert violation.field == "metadata[field]"
    assert type_ in violation.description


def test_schemas_come_back_as_they_were_given() -> None:
    fields = tuple(FieldSchema(f"field {type_}", type_) for type_ in FieldType)
    assert schema(messages(fields), "schema") == fields


def named(*names: str) -> list[Message]:
    return [Message(name=name, type=FIELD_TYPE_KEYWORD) for name in names]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (named(*(f"f{at}" for at in range(257))), "schema"),
        (named("a", ""), "schema[1].name"),
        (named("x" * 129), "schema[0].name"),
        (named("nul\0"), "schema[0].name"),
        (named("a", "b", "a"), "schema[2].name"),
        ([Message(name="a")], "schema[0].type"),
        ([Message(name="a", type=99)], "schema[0].type"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_schema_is_refused_by_its_path(fields: list[Message], path: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        schema(fields, "schema")
    assert [violation.field for violation in refusal.value.fields] == [path]


def test_an_update_may_only_add_fields(store: SqliteStore) -> None:
    update: Callable[..., object] = lambda *fields: store.update_collection(  # noqa: E731
        "default", "books", CollectionUpdate(schema=fields)
    ).result()
    store.create_collection(definition("books")).result()
    update(YEAR)
    update(TAGS, YEAR)
    before = store.collection("default", "books")
    assert before.schema == (TAGS, YEAR)
    for fewer in [(), (YEAR,), (YEAR, FieldSchema("tags", FieldType.KEYWORD))]:
        with pytest.raises(InvalidArgument) as refusal:
            update(*fewer)
        assert refusal.value.reason == "IMMUTABLE_FIELD"
        assert refusal.value.fields[0].field == "collection.schema"
    assert store.collection("default", "books") == before
