"""What callers hand to the batcher, and what they get back."""

import asyncio
import enum
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import TokenizedItem
from sirdar.errors import SirdarError


class Priority(enum.Enum):
    """INTERACTIVE: somebody waits for the answer. BULK: throughput counts."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Work:
    """What a request says of its items."""

    priority: Priority
    caller: str = ""
    """Callers of one priority share the engine fairly, however much each asks."""
    deadline: float | None = None
    """Seconds on time.monotonic()."""
    partial: bool = False
    """Rather drop the last items than miss the deadline."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchedRows:
    """What the engine made of a caller's items."""

    rows: NDArray[np.float32]
    """[items, dimensions], in the order of the items; of failed or dropped ones undefined."""
    failures: dict[int, SirdarError]
    """Why an item has no row, by its index."""
    dropped: frozenset[int]
    """Indexes of items that there was no time for; only of work that may be partial."""


@dataclass(slots=True, eq=False)
class Job:
    """Items of one caller, answered together."""

    work: Work
    rows: NDArray[np.float32]
    """[items, dimensions], filled batch by batch."""
    done: asyncio.Future[None]
    pending: int
    """Items that are neither answered nor failed."""
    since: float = field(default_factory=time.monotonic)
    """Seconds on time.monotonic(), of its arrival."""
    waiting: "dict[int, Waiting]" = field(default_factory=dict)
    """Those of its items that are still in the queue, by sequence number."""
    waiting_tokens: int = 0
    computed_tokens: int = 0
    failures: dict[int, SirdarError] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)

    def fail(self, error: SirdarError) -> None:
        """All of it."""
        if not self.done.done():
            self.done.set_exception(error)

    def settle(self, items: int) -> None:
        """So many more items have their outcome."""
        self.pending -= items
        if self.pending == 0 and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Waiting:
    """One item in the queue."""

    item: TokenizedItem
    job: Job
    index: int
    """Its row in the job."""
    number: int = 0
    """Its place among all arrivals."""
    tag: float = 0.0
    """Its place in the fair order of the callers, in tokens of virtual time."""
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = len(self.item.token_ids)

    def answer(self, row: NDArray[np.float32]) -> None:
        self.job.rows[self.index] = row
        self.job.computed_tokens += self.tokens
        self.job.settle(1)

    def fail(self, error: SirdarError) -> None:
        self.job.failures[self.index] = error
        self.job.settle(1)

    def __lt__(self, other: "Waiting") -> bool:
        return (self.tag, self.number) < (other.tag, other.number)
