"""Strings of files become what a schema says, or are refused by the field's name."""

from datetime import UTC, datetime

import pytest

from sirdar.cli.typed_metadata import typed
from sirdar.client import Document, FieldType, MetadataValue


def value(text: MetadataValue, kind: FieldType) -> MetadataValue:
    return typed(Document("a", "text", metadata={"f": text}), {"f": kind}).metadata["f"]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (" 7 ", FieldType.INTEGER, 7),
        ("-9223372036854775808", FieldType.INTEGER, -(2**63)),
        ("1e3", FieldType.FLOAT, 1000.0),
        ("False", FieldType.BOOLEAN, False),
        ("2025-01-01T00:00:00.5Z", FieldType.TIMESTAMP, datetime(2025, 1, 1, 0, 0, 0, 500000, UTC)),
        ("a, b,,", FieldType.KEYWORD_LIST, ["a", "b"]),
        ("7", FieldType.KEYWORD, "7"),
        ("7", FieldType.TEXT, "7"),
        (7, FieldType.TIMESTAMP, 7),
    ],
)
def test_a_string_becomes_the_type(
    text: MetadataValue, kind: FieldType, expected: MetadataValue
) -> None:
    found = value(text, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.5", FieldType.INTEGER),
        ("9223372036854775808", FieldType.INTEGER),
        ("9" * 10_000, FieldType.INTEGER),
        ("²", FieldType.INTEGER),
        ("--1", FieldType.INTEGER),
        ("", FieldType.FLOAT),
        ("yes", FieldType.BOOLEAN),
        ("2025-01-01T00:00:00", FieldType.TIMESTAMP),
        ("soon", FieldType.TIMESTAMP),
    ],
)
def test_what_is_not_of_the_type_is_refused_by_name(text: str, kind: FieldType) -> None:
    with pytest.raises(ValueError, match=r"^metadata\.f: "):
        value(text, kind)


def test_other_fields_stay_as_they_are() -> None:
    document = Document("a", "text", metadata={"f": "1", "g": "2"})
    assert typed(document, {}) is document
    assert typed(document, {"f": FieldType.INTEGER}).metadata == {"f": 1, "g": "2"}
