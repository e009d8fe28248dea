"""Checks that fields of several messages share."""

import math
from typing import Any, Protocol, TypeVar

from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument

ValueT = TypeVar("ValueT", bound=int)


class _Enum(Protocol):
    def values(self) -> Any: ...


def in_range(field: str, value: int, least: int, most: int) -> int:
    """The value. Raises InvalidArgument."""
    if not least <= value <= most:
        raise InvalidArgument.field(field, f"is {value}; it must be {least} to {most}")
    return value


def finite(field: str, value: float) -> float:
    """The value. Raises InvalidArgument."""
    if not math.isfinite(value):
        raise InvalidArgument.field(field, f"is {value}; it must be a finite number")
    return value


def known(field: str, value: ValueT, enum: _Enum) -> ValueT:
    """The value, if the gateway knows it. Raises InvalidArgument."""
    if value not in enum.values():
        raise InvalidArgument.field(field, f"{value} is not known; update the gateway or ask less")
    return value


def check_text(text: str, field: str, settings: GatewaySettings) -> str:
    """The text, if it can be searched for. Raises InvalidArgument."""
    limit = settings.max_query_characters
    if not text.strip():
        raise InvalidArgument.field(field, "must not be empty")
    if len(text) > limit:
        raise InvalidArgument.field(
            field, f"has {len(text)} characters; at most {limit} are allowed, shorten it"
        )
    if "\0" in text:
        raise InvalidArgument.field(field, "must not contain NUL characters; remove them")
    return text
