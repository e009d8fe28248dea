"""The protobuf JSON mapping, with the contract's own field names."""

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sirdar.errors import InvalidArgument

M = TypeVar("M", bound=Message)

# json_format names the fields on the way to a fault in sentences only.
_PARSED = re.compile(r"Failed to parse (\w+) field")
_UNKNOWN = re.compile(r'has no field named "([^"]*)" at "\w+\.?([^"]*)"')
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}


def load_json(text: bytes, field: str = "body") -> object:
    """Raises InvalidArgument for what is not JSON in UTF-8."""
    try:
        value: object = json.loads(text)
    except RecursionError as error:
        raise InvalidArgument.field(field, "is nested too deeply") from error
    except ValueError as error:
        raise InvalidArgument.field(field, f"is not JSON: {error}", reason="BAD_JSON") from error
    return value


def to_message(value: object, message: M, field: str = "body") -> M:
    """Fills the message. Raises InvalidArgument that names the field which does not fit."""
    if not isinstance(value, dict):
        raise InvalidArgument.field(
            field, f"must be a JSON object, a {message.DESCRIPTOR.name}", reason="BAD_JSON"
        )
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
        # Of the last three, json_format lets some through where a value has another type.
        raise _misfit(error, field) from error
    except RecursionError as error:
        raise InvalidArgument.field(field, "is nested too deeply") from error
    return message


def _misfit(error: Exception, field: str) -> InvalidArgument:
    # A lone surrogate in the caller's text must not break the answer.
    text = str(error).encode("utf-8", "backslashreplace").decode()
    unknown = _UNKNOWN.search(text)
    if unknown is not None:
        name, parent = unknown.groups()
        path = f"{parent}.{name}" if parent else name
        return InvalidArgument.field(path, "is not a field of the request", reason="UNKNOWN_FIELD")
    path = ".".join(_PARSED.findall(text)) or field
    detail = text.rpartition(" field: ")[2].rstrip(".")
    return InvalidArgument.field(path, f"does not fit: {detail}", reason="BAD_JSON")


def to_value(message: Message) -> dict[str, Any]:
    """The message as JSON values; unset fields without presence are there, with their default."""
    value: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return value


def to_json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, quoted from a caller, becomes the escape that it was.
    return text.encode("utf-8", "backslashreplace")


def from_query(parameters: Iterable[tuple[str, str]], message: M) -> M:
    """Fills the message from a query string.

    A field in a message is named by its path (`rerank.depth`), a repeated
    field is given several times. Raises InvalidArgument as `to_message`.
    """
    value: dict[str, Any] = {}
    descriptor: Any = message.DESCRIPTOR
    for name, text in parameters:
        into, field = _place(value, descriptor, name)
        item = _query_value(field, name, text)
        if field.is_repeated:
            into.setdefault(field.name, []).append(item)
        elif field.name in into:
            raise InvalidArgument.field(name, "is given twice; give it once")
        else:
            into[field.name] = item
    return to_message(value, message, "query")


def no_query(parameters: Iterable[tuple[str, str]]) -> None:
    """Raises InvalidArgument for any: here the body says it all."""
    for name, _ in parameters:
        raise InvalidArgument.field(
            name, "is not a parameter here; say it in the body", reason="UNKNOWN_FIELD"
        )


def _place(
    value: dict[str, Any], descriptor: Descriptor, name: str
) -> tuple[dict[str, Any], FieldDescriptor]:
    """Where the field of this path goes."""
    *parents, last = name.split(".")
    for parent in parents:
        outer = descriptor.fields_by_name.get(parent)
        if outer is None or outer.message_type is None or outer.is_repeated:
            raise _no_parameter(name)
        value, descriptor = value.setdefault(parent, {}), outer.message_type
    field = descriptor.fields_by_name.get(last)
    if field is None or field.message_type is not None:
        raise _no_parameter(name)
    return value, field


def _no_parameter(name: str) -> InvalidArgument:
    return InvalidArgument.field(name, "is not a parameter here; see /docs", reason="UNKNOWN_FIELD")


def _query_value(field: FieldDescriptor, name: str, text: str) -> object:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return text
    if text.lower() not in _TRUTH:
        raise InvalidArgument.field(name, "must be true or false")
    return _TRUTH[text.lower()]
