"""Operations in a line that a person can read."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum


def wording(item: object) -> str:
    """A dataclass by its name and the fields that are not as usual."""
    if isinstance(item, Enum):
        return str(item.value)
    if isinstance(item, tuple):
        return "[" + ", ".join(wording(part) for part in item) + "]"
    if not is_dataclass(item):
        return repr(item)
    return f"{type(item).__name__}({', '.join(_fields(item))})"


def _fields(item: object) -> Iterator[str]:
    assert is_dataclass(item)
    for entry in fields(item):
        value = getattr(item, entry.name)
        if entry.default is MISSING or value != entry.default:
            yield f"{entry.name}={wording(value)}"
