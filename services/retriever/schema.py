"""The schema of a collection's metadata, from the messages of requests and to those of answers."""

from collections.abc import Iterable, Sequence

from services.retriever.store.records import FieldSchema, FieldType
from sirdar.errors import InvalidArgument
from sirdar.v1 import filter_pb2

MAX_FIELDS = 256
MAX_FIELD_CHARACTERS = 128

_TYPES = {
    filter_pb2.FIELD_TYPE_KEYWORD: FieldType.KEYWORD,
    filter_pb2.FIELD_TYPE_KEYWORD_LIST: FieldType.KEYWORD_LIST,
    filter_pb2.FIELD_TYPE_INTEGER: FieldType.INTEGER,
    filter_pb2.FIELD_TYPE_FLOAT: FieldType.FLOAT,
    filter_pb2.FIELD_TYPE_BOOLEAN: FieldType.BOOLEAN,
    filter_pb2.FIELD_TYPE_TIMESTAMP: FieldType.TIMESTAMP,
    filter_pb2.FIELD_TYPE_TEXT: FieldType.TEXT,
}
_MESSAGES = {type_: value for value, type_ in _TYPES.items()}


def schema(fields: Sequence[filter_pb2.FieldSchema], field: str) -> tuple[FieldSchema, ...]:
    """Raises InvalidArgument with paths below `field`."""
    if len(fields) > MAX_FIELDS:
        raise InvalidArgument.field(
            field, f"must be at most {MAX_FIELDS} fields, not {len(fields)}"
        )
    names: set[str] = set()
    for at, item in enumerate(fields):
        if not 1 <= len(item.name) <= MAX_FIELD_CHARACTERS or "\0" in item.name:
            raise InvalidArgument.field(
                f"{field}[{at}].name",
                f"must be 1 to {MAX_FIELD_CHARACTERS} characters without NUL",
            )
        if item.name in names:
            raise InvalidArgument.field(
                f"{field}[{at}].name", f"must be given once; {item.name!r} is there already"
            )
        if item.type not in _TYPES:
            raise InvalidArgument.field(
                f"{field}[{at}].type", f"must be one of {', '.join(FieldType)}"
            )
        names.add(item.name)
    return tuple(FieldSchema(item.name, _TYPES[item.type]) for item in fields)


def messages(fields: Iterable[FieldSchema]) -> list[filter_pb2.FieldSchema]:
    return [filter_pb2.FieldSchema(name=item.name, type=_MESSAGES[item.type]) for item in fields]
