"""The metadata of files by the types of a collection's schema: files have strings for many."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC

from sirdar.client import Document, FieldType, MetadataValue
from sirdar.instants import read_instant

_TRUTH = {"true": True, "false": False}


def typed(document: Document, schema: Mapping[str, FieldType]) -> Document:
    """The document with the strings of its metadata as the schema's types.

    What is no string stays as it is, and the server has the last word. Raises
    ValueError that names the field.
    """
    changed: dict[str, MetadataValue] = {}
    for name, value in document.metadata.items():
        read = _READERS.get(schema[name]) if name in schema else None
        if read is None or not isinstance(value, str):
            continue
        try:
            changed[name] = read(value.strip())
        except ValueError as error:
            raise ValueError(f"metadata.{name}: {error}") from error
    if not changed:
        return document
    return replace(document, metadata={**document.metadata, **changed})


def _keywords(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _integer(text: str) -> int:
    # Longer ones have more than 64 bits, and int() refuses thousands of digits in its own words.
    number = int(text) if len(text) <= 20 and text.lstrip("+-").isdecimal() else None
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError(f"{text[:40]!r} is no integer of 64 bits")
    return number


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no number") from None


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{text[:40]!r} is neither true nor false")
    return _TRUTH[text.lower()]


_READERS: Mapping[FieldType, Callable[[str], MetadataValue]] = {
    FieldType.KEYWORD_LIST: _keywords,
    FieldType.INTEGER: _integer,
    FieldType.FLOAT: _float,
    FieldType.BOOLEAN: _boolean,
    FieldType.TIMESTAMP: lambda text: read_instant(text).ToDatetime(tzinfo=UTC),
}
