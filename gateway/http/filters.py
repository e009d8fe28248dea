"""Filters in query strings, which take the form that people write."""

from collections.abc import Iterable

from gateway.http.schemas import Schema
from sirdar.errors import InvalidArgument
from sirdar.filter_text import parse_filter
from sirdar.v1.filter_pb2 import Filter

FILTER = "filter"
PARAMETER: Schema = {
    "name": FILTER,
    "in": "query",
    "schema": {"type": "string"},
    "description": "Only documents whose metadata meet it: `=`, `!=`, `<`, `<=`, `>`, `>=`, `IN`, "
    "`BETWEEN`, `CONTAINS`, `exists(field)`, with `AND`, `OR`, `NOT` and parentheses.",
    "example": 'category = "news" AND date >= 2025-01-01',
}


def split_filter(
    parameters: Iterable[tuple[str, str]],
) -> tuple[list[tuple[str, str]], Filter | None]:
    """The other parameters, and the filter where there is one. Raises InvalidArgument."""
    others: list[tuple[str, str]] = []
    found: Filter | None = None
    for name, text in parameters:
        if name.startswith(f"{FILTER}."):
            # The message has these paths, and no query string could nest them.
            raise InvalidArgument.field(
                name, "is not a parameter here; see /docs", reason="UNKNOWN_FIELD"
            )
        if name != FILTER:
            others.append((name, text))
        elif found is not None:
            raise InvalidArgument.field(name, "is given twice; join the two with AND")
        else:
            found = parse_filter(text, FILTER)
    return others, found
