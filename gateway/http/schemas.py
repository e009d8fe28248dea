"""JSON Schemas of protobuf messages, as the protobuf JSON mapping writes and reads them."""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_INT64: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^-?[0-9]+$"},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    ],
    "format": "int64",
    "description": "Answered as a string: JSON's numbers are doubles to many.",
}
_UINT64: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]+$"},
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    ],
    "format": "uint64",
}
_INT32: Schema = {
    "type": "integer",
    "format": "int32",
    "minimum": -(2**31),
    "maximum": 2**31 - 1,
}
_UINT32: Schema = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
_NOT_FINITE: Schema = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}

_F = FieldDescriptor
_SCALARS: Mapping[int, Schema] = {
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _F.TYPE_DOUBLE: {"anyOf": [{"type": "number", "format": "double"}, _NOT_FINITE]},
    _F.TYPE_FLOAT: {"anyOf": [{"type": "number", "format": "float"}, _NOT_FINITE]},
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), _INT32),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), _UINT32),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), _INT64),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), _UINT64),
}
# Messages that the mapping writes as something else than an object of their fields.
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["0.012s"],
    },
    "google.protobuf.FieldMask": {"type": "string", "examples": ["description,labels"]},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    },
}


class Schemas:
    """The schemas that an API refers to, by name, gathered while it refers to them."""

    def __init__(self) -> None:
        self.by_name: dict[str, Schema] = {}

    def reference(self, descriptor: Descriptor) -> Schema:
        """A reference to the schema of a message; it and what it contains are added."""
        return self._named(descriptor, self._message)

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of a field's value, repeated or not."""
        value = _map_value(field)
        if value is not None:
            return {"type": "object", "additionalProperties": self._single(value)}
        if field.is_repeated:
            return {"type": "array", "items": self._single(field)}
        return self._single(field)

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.type == _F.TYPE_ENUM:
            return self._named(field.enum_type, _enum)
        if field.message_type is None:
            return _SCALARS[field.type]
        known = _WELL_KNOWN.get(field.message_type.full_name)
        return known or self.reference(field.message_type)

    def _named(self, descriptor: Any, make: Callable[[Any], Schema]) -> Schema:
        name: str = descriptor.name
        if name not in self.by_name:
            # Named before it is made: messages may contain themselves.
            self.by_name[name] = {}
            self.by_name[name].update(make(descriptor))
        return {"$ref": _REF + name}

    def _message(self, descriptor: Descriptor) -> Schema:
        schema: Schema = {
            "type": "object",
            "title": descriptor.name,
            "properties": {field.name: self.field(field) for field in descriptor.fields},
            "additionalProperties": False,
        }
        # An `optional` field is a oneof of its own to the descriptor.
        oneofs = [oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1]
        if [len(oneof.fields) for oneof in oneofs] == [len(descriptor.fields)]:
            # Said in the simplest way: generators do not see through `not` in messages that
            # contain themselves.
            schema["maxProperties"] = 1
            return schema
        choices = [_at_most_one([field.name for field in oneof.fields]) for oneof in oneofs]
        if choices:
            schema["allOf"] = choices
        return schema


def _enum(descriptor: EnumDescriptor) -> Schema:
    return {"type": "string", "title": descriptor.name, "enum": [v.name for v in descriptor.values]}


def _at_most_one(names: list[str]) -> Schema:
    alone: list[Schema] = [{"required": [name]} for name in names]
    return {"oneOf": [*alone, {"not": {"anyOf": alone}}]}


def _map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """The field of a map's values; None for what is no map."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return None
    return entry.fields_by_name["value"]
