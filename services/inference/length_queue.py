"""Items that wait for an engine, in order of arrival and findable by length."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import TokenizedItem
from sirdar.errors import SirdarError

# Items in one bucket differ by less than this in length.
_BUCKET_TOKENS = 8
# A batch takes shorter items too while they fill this much of its width ...
_LEAST_FILL = 0.75
# ... or while their padding costs less than a batch of their own would. all-MiniLM-L6-v2
# in bf16 on one core: 2.8 ms a batch, which is the reading of the weights, and 0.07 ms a
# padded token.
_BATCH_OVERHEAD_TOKENS = 32


@dataclass(slots=True, eq=False)
class Job:
    """Items of one caller, answered together."""

    rows: NDArray[np.float32]
    """[items, dimensions], filled batch by batch."""
    done: asyncio.Future[None]
    deadline: float | None
    """Seconds on time.monotonic()."""
    pending: int
    failures: dict[int, SirdarError] = field(default_factory=dict)
    waiting: dict[int, "Waiting"] = field(default_factory=dict)
    """Those of its items that are still in the queue, by sequence number."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One item in the queue."""

    item: TokenizedItem
    job: Job
    index: int
    """Its row in the job."""
    since: float
    """Seconds on time.monotonic()."""

    def answer(self, row: NDArray[np.float32]) -> None:
        self.job.rows[self.index] = row
        self._settle()

    def fail(self, error: SirdarError) -> None:
        self.job.failures[self.index] = error
        self._settle()

    def _settle(self) -> None:
        self.job.pending -= 1
        if self.job.pending == 0 and not self.job.done.done():
            self.job.done.set_result(None)


class LengthQueue:
    """Buckets by length, each in order of arrival. Not thread-safe; knows no clock."""

    def __init__(self) -> None:
        self.items = 0
        self.tokens = 0
        self._numbers = itertools.count()
        self._buckets: dict[int, OrderedDict[int, Waiting]] = {}

    def push(self, entries: Sequence[Waiting]) -> None:
        for entry in entries:
            number = next(self._numbers)
            bucket = self._buckets.setdefault(_bucket(entry.item.tokens), OrderedDict())
            bucket[number] = entry
            entry.job.waiting[number] = entry
            self.items += 1
            self.tokens += entry.item.tokens

    def drop(self, job: Job) -> int:
        """Takes out all items of a job; returns how many there were."""
        count = len(job.waiting)
        for number in list(job.waiting):
            self._take(_bucket(job.waiting[number].item.tokens), number)
        return count

    def seal(self, budget_tokens: int) -> list[Waiting]:
        """Takes the oldest item and those that are cheaper with it than alone; [] when empty.

        Rows times the longest row is within the budget, except for a single item.
        Since the oldest item is always in, no length starves.
        """
        if not self._buckets:
            return []
        oldest = min(self._buckets, key=lambda bucket: next(iter(self._buckets[bucket])))
        # Longer items, too, where the oldest may as well ride with them.
        widest = oldest
        for bucket in self._buckets:
            if bucket > widest and self._rides(oldest, (bucket + 1) * _BUCKET_TOKENS):
                widest = bucket
        number, first = next(iter(self._buckets[oldest].items()))
        self._take(oldest, number)
        batch = [first]
        width = first.item.tokens
        for bucket in sorted((b for b in self._buckets if b <= widest), reverse=True):
            while self._rides(bucket, width):
                number, entry = next(iter(self._buckets[bucket].items()))
                wider = max(width, entry.item.tokens)
                if (len(batch) + 1) * wider > budget_tokens:
                    return batch
                width = wider
                self._take(bucket, number)
                batch.append(entry)
        return batch

    def _rides(self, bucket: int, width: int) -> bool:
        """Whether the bucket's next item is cheaper in a batch so wide than with its like."""
        waiting = self._buckets.get(bucket)
        if not waiting:
            return False
        tokens = next(iter(waiting.values())).item.tokens
        padding = width - tokens
        return tokens >= _LEAST_FILL * width or padding * len(waiting) <= _BATCH_OVERHEAD_TOKENS

    def _take(self, bucket: int, number: int) -> None:
        entries = self._buckets[bucket]
        entry = entries.pop(number)
        if not entries:
            del self._buckets[bucket]
        del entry.job.waiting[number]
        self.items -= 1
        self.tokens -= entry.item.tokens


def _bucket(tokens: int) -> int:
    return (tokens - 1) // _BUCKET_TOKENS
