"""What `sirdar index` reads: documents, and what is wrong with the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sirdar.client import Document


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two documents of a file: the bytes before it, and the lines or rows."""

    position: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that was not indexed: where it stands, what is wrong and how to mend it."""

    place: str
    document_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that holds no document for this command; `reason` is a word or two to count by."""

    place: str
    document_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A document and where it stands.

    `position` counts the source's bytes up to its end, `number` the lines or
    rows, where the source has them.
    """

    document: Document
    place: str
    position: int
    number: int = 0


Item = Found | Refusal | Skip


class Source(Protocol):
    """Documents in the order in which they stand; `total_bytes` is None where nobody knows."""

    @property
    def total_bytes(self) -> int | None: ...

    def __iter__(self) -> Iterator[Item]: ...


class Resumable(Source, Protocol):
    """A source that can begin in the middle."""

    def start_at(self, mark: Mark) -> None:
        """The next iteration begins behind the mark."""
