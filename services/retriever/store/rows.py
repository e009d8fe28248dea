"""The rows of documents that a write reads and changes, whatever database they are in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.records import DocumentWrite, Position


@dataclass(frozen=True, slots=True)
class Existing:
    """The row of an id; `version` counts on while a deleted document's tombstone is there."""

    key: int
    shard: int
    id: str
    version: int
    deleted: bool
    passages: int
    content_hash: bytes
    expires_ns: int | None
    metadata: bytes

    def live(self, now_ns: int) -> bool:
        """Not deleted, and not about to be as its time is over."""
        return not self.deleted and (self.expires_ns is None or self.expires_ns > now_ns)


class Placed(NamedTuple):
    """A document to be written with its passages."""

    write: DocumentWrite
    before: Existing | None
    position: Position

    @property
    def version(self) -> int:
        return self.before.version + 1 if self.before else 1


class Kept(NamedTuple):
    """A document whose passages stay."""

    before: Existing
    position: Position
    metadata: bytes
    expires_ns: int | None


class Step(NamedTuple):
    """A write that needs a place in the log, and what it adds to its shard's counts."""

    shard: int
    documents: int = 0
    passages: int = 0


class DocumentRows(Protocol):
    """Within a transaction. Many at a time: a statement for each document would cost a batch of
    one-passage documents half of its time."""

    def has_generation(self, generation_key: int) -> bool:
        """Whether it is there and its collection was not deleted."""
        ...

    def existing(self, generation_key: int, ids: Sequence[str]) -> dict[str, Existing]:
        """By id, those that have a row."""
        ...

    def expired(self, now_ns: int, limit: int) -> dict[int, list[Existing]]:
        """By generation, some of the documents whose time is over, the longest over first.

        Those of deleted collections go with them.
        """
        ...

    def take(self, generation_key: int, steps: Sequence[Step]) -> list[Position]:
        """The next sequences of the shards, in the order of the steps.

        The rows stay locked until the commit, so sequences are committed in their
        order and without a gap.
        """
        ...

    def last(self, generation_key: int) -> list[int]:
        """The last sequence of each shard."""
        ...

    def place(self, placed: Sequence[Placed], now_ns: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Writes documents whole; the key and the passage ids of each, none ever given before."""
        ...

    def keep(self, kept: Sequence[Kept], now_ns: int) -> None:
        """New metadata and expiry; the rest is what it was."""
        ...

    def purge(self, before_ns: int, limit: int) -> int:
        """Removes so many of the tombstones that were left before; answers how many. Their shards
        keep the last of their sequences."""
        ...

    def bury(self, dead: Sequence[tuple[Existing, Position]], now_ns: int) -> None:
        """Leaves tombstones."""
        ...
