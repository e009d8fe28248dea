"""What `sirdar index` reads: documents, and what is wrong with the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sirdar.client import Document


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that was not indexed: where it stands, what is wrong and how to mend it."""

    place: str
    document_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """A document and where it stands; `position` counts the source's bytes up to its end."""

    document: Document
    place: str
    position: int


class Source(Protocol):
    """Documents in the order in which they stand; `total_bytes` is None where nobody knows."""

    @property
    def total_bytes(self) -> int | None: ...

    def __iter__(self) -> Iterator[Found | Refusal]: ...
