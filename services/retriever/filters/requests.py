"""Filters from the messages of requests, checked against the schema of the collection.

Raises InvalidArgument that names the part by its path and says what would be right.
"""

import math
from collections.abc import Sequence

from services.retriever.filters.conditions import (
    AllOf,
    AnyOf,
    Bound,
    Condition,
    Contains,
    Exists,
    NoneOf,
    OneOf,
    Range,
    Value,
)
from services.retriever.store.records import FieldSchema, FieldType
from sirdar.errors import InvalidArgument
from sirdar.v1 import filter_pb2
from sirdar.v1.document_pb2 import MetadataValue

MAX_LEVELS = 32
MAX_VALUES = 10_000
MAX_TEXT_CHARACTERS = 32_768

# Of google.protobuf.Timestamp: the years 1 to 9999.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_NANOS = 1_000_000_000

_KINDS = {
    FieldType.KEYWORD: ("string_value",),
    FieldType.KEYWORD_LIST: ("string_value",),
    FieldType.INTEGER: ("int64_value",),
    FieldType.FLOAT: ("double_value", "int64_value"),
    FieldType.BOOLEAN: ("bool_value",),
    FieldType.TIMESTAMP: ("timestamp_value",),
}
_RANGED = (FieldType.KEYWORD, FieldType.INTEGER, FieldType.FLOAT, FieldType.TIMESTAMP)


def condition(
    message: filter_pb2.Filter, schema: Sequence[FieldSchema], field: str = "filter"
) -> Condition:
    """What a filter asks of documents with this schema."""
    return _Reader(schema, field).condition(message, field, 1)


class _Reader:
    """Reads one filter; counts its values."""

    def __init__(self, schema: Sequence[FieldSchema], root: str) -> None:
        self._fields = {field.name: field for field in schema}
        self._root = root
        self._values = 0

    def condition(self, message: filter_pb2.Filter, path: str, level: int) -> Condition:
        if level > MAX_LEVELS:
            # The path of what is too deep is too long to be read.
            raise InvalidArgument.field(
                self._root, f"must be nested at most {MAX_LEVELS} levels deep; flatten the filter"
            )
        read: Condition
        match message.WhichOneof("condition"):
            case "all_of":
                read = AllOf(self._conditions(message.all_of, f"{path}.all_of", level))
            case "any_of":
                read = AnyOf(self._conditions(message.any_of, f"{path}.any_of", level))
            case "none_of":
                read = NoneOf(self._conditions(message.none_of, f"{path}.none_of", level))
            case "equals":
                read = self._equals(message.equals, f"{path}.equals")
            case "one_of":
                read = self._one_of(message.one_of, f"{path}.one_of")
            case "range":
                read = self._range(message.range, f"{path}.range")
            case "exists":
                self._count(1, f"{path}.exists")
                read = Exists(self._field(message.exists.field, f"{path}.exists"))
            case "contains":
                read = self._contains(message.contains, f"{path}.contains")
            case _:
                raise InvalidArgument.field(path, "must have a condition")
        return read

    def _conditions(
        self, message: filter_pb2.FilterList, path: str, level: int
    ) -> tuple[Condition, ...]:
        if not message.filters:
            raise InvalidArgument.field(f"{path}.filters", "must have at least one filter")
        return tuple(
            self.condition(item, f"{path}.filters[{at}]", level + 1)
            for at, item in enumerate(message.filters)
        )

    def _equals(self, message: filter_pb2.EqualsCondition, path: str) -> OneOf:
        field = self._whole(message.field, path)
        self._count(1, f"{path}.value")
        return OneOf(field, (_value(field, message.value, f"{path}.value"),))

    def _one_of(self, message: filter_pb2.OneOfCondition, path: str) -> OneOf:
        field = self._whole(message.field, path)
        if not message.values:
            raise InvalidArgument.field(f"{path}.values", "must have at least one value")
        self._count(len(message.values), f"{path}.values")
        values = {
            _value(field, item, f"{path}.values[{at}]") for at, item in enumerate(message.values)
        }
        return OneOf(field, tuple(sorted(values)))

    def _range(self, message: filter_pb2.RangeCondition, path: str) -> Range:
        field = self._field(message.field, path)
        if field.type not in _RANGED:
            raise InvalidArgument.field(
                f"{path}.field",
                f"must be a {', '.join(_RANGED)} field; {field.name!r} is a {field.type}",
            )
        low = self._bound(message, field, ("greater_than", "at_least"), path)
        high = self._bound(message, field, ("less_than", "at_most"), path)
        if low is None and high is None:
            raise InvalidArgument.field(
                path, "must have a bound: greater_than, at_least, less_than or at_most"
            )
        return Range(field, low, high)

    def _bound(
        self,
        message: filter_pb2.RangeCondition,
        field: FieldSchema,
        names: tuple[str, str],
        path: str,
    ) -> Bound | None:
        """`names`: the exclusive and the inclusive bound of one side."""
        given = [name for name in names if message.HasField(name)]  # type: ignore[arg-type]
        if len(given) == 2:
            raise InvalidArgument.field(
                f"{path}.{names[0]}", f"must not be given together with {names[1]}"
            )
        if not given:
            return None
        self._count(1, f"{path}.{given[0]}")
        value = _value(field, getattr(message, given[0]), f"{path}.{given[0]}")
        return Bound(value, inclusive=given[0] == names[1])

    def _contains(self, message: filter_pb2.ContainsCondition, path: str) -> Contains:
        self._count(1, f"{path}.text")
        field = self._field(message.field, path)
        if field.type is not FieldType.TEXT:
            raise InvalidArgument.field(
                f"{path}.field",
                f"must be a text field; {field.name!r} is a {field.type}: use equals or one_of",
            )
        if not message.text.strip():
            raise InvalidArgument.field(f"{path}.text", "must have a word")
        if len(message.text) > MAX_TEXT_CHARACTERS:
            raise InvalidArgument.field(
                f"{path}.text",
                f"must be at most {MAX_TEXT_CHARACTERS} characters, not {len(message.text)}",
            )
        return Contains(field, message.text)

    def _whole(self, name: str, path: str) -> FieldSchema:
        """A field whose values are compared whole."""
        field = self._field(name, path)
        if field.type is FieldType.TEXT:
            raise InvalidArgument.field(
                f"{path}.field", f"must not be a text field; ask what {name!r} contains"
            )
        return field

    def _field(self, name: str, path: str) -> FieldSchema:
        field = self._fields.get(name)
        if field is None:
            known = ", ".join(sorted(self._fields)) or "none"
            raise InvalidArgument.field(
                f"{path}.field",
                f"must be a field of the collection's schema, not {name!r}; it has {known}",
                reason="UNKNOWN_FIELD",
            )
        return field

    def _count(self, more: int, path: str) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            raise InvalidArgument.field(
                path,
                f"makes more than the {MAX_VALUES} values that {self._root} may "
                "have; split it into several calls",
            )


def _value(field: FieldSchema, message: MetadataValue, path: str) -> Value:
    kind = message.WhichOneof("kind")
    if kind not in _KINDS[field.type]:
        raise InvalidArgument.field(
            path,
            f"must be a {' or '.join(_KINDS[field.type])}, as {field.name!r} is a {field.type}, "
            f"not {kind or 'empty'}",
        )
    if kind == "timestamp_value":
        time = message.timestamp_value
        if not (_MIN_SECONDS <= time.seconds <= _MAX_SECONDS and 0 <= time.nanos < _NANOS):
            raise InvalidArgument.field(path, "must be a time of the years 1 to 9999")
        return time.seconds, time.nanos
    value: str | int | float | bool = getattr(message, kind)
    if field.type is FieldType.FLOAT:
        # As documents' values are: to the nearest double.
        value = float(value)
        if math.isnan(value):
            raise InvalidArgument.field(path, "must be a number, not NaN, which nothing equals")
    return value
