"""Dates and times as people write them."""

from google.protobuf.timestamp_pb2 import Timestamp


def read_instant(text: str) -> Timestamp:
    """An RFC 3339 date, which is its first instant in UTC, or date-time with its zone.

    Raises ValueError, which says what could be written.
    """
    upper = text.strip().upper()
    instant = Timestamp()
    try:
        instant.FromJsonString(upper if "T" in upper else f"{upper}T00:00:00Z")
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is no date or time; write 2025-01-01 or 2025-01-01T12:00:00Z"
        ) from None
    return instant
