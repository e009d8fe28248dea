"""Items that wait for an engine: fair between callers, and findable by length."""

import enum
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.cost import CostModel
from services.inference.work import Job, Waiting

# Items in one bucket differ by less than this in length.
_BUCKET_TOKENS = 8
# A batch takes shorter items too while they fill this much of its width, or while their
# padding costs less than a batch of their own would.
_LEAST_FILL = 0.75
# Dead entries that may lie in the buckets before they are swept out.
_SWEEP_ENTRIES = 4_096
# Callers that are remembered after their work is done.
_IDLE_CALLERS = 256


class Closed(enum.Enum):
    """Why a batch took no more items."""

    FULL = "full"
    """The next would have exceeded its time or the engine's memory."""
    SLICE = "slice"
    """The same for a batch kept small, because other work waits or may come."""
    LENGTH = "length"
    """What else waited was too long, too short, or too far behind."""
    DRAINED = "drained"
    """Nothing else waited."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a batch may be; a single item may exceed it."""

    seconds: float
    padded_tokens: int
    window_tokens: float
    """How far behind the first item in the fair order another one may be to ride along."""


@dataclass(slots=True)
class Caller:
    """What one caller has in the queue."""

    finish: float = 0.0
    """Virtual time at which what it asked for so far has had its fair share."""
    items: int = 0
    tokens: int = 0


class LengthQueue:
    """Buckets by length, each ordered by start-time fair queueing over callers.

    Virtual time counts tokens; an item's tag is the larger of the virtual time
    at its arrival and the finish of its caller's item before it (Goyal, Vin and
    Cheng, 1996). Not thread-safe; knows no clock.
    """

    def __init__(self) -> None:
        self.items = 0
        self.tokens = 0
        self.bytes = 0
        self.callers: dict[str, Caller] = {}
        self._virtual = 0.0
        self._numbers = itertools.count()
        self._buckets: dict[int, list[Waiting]] = {}
        self._dead = 0

    def push(self, entries: Sequence[Waiting]) -> None:
        """Adds items of one job."""
        if not entries:
            return
        name = entries[0].job.work.caller
        caller = self.callers.get(name)
        if caller is None:
            self._forget_idle()
            caller = self.callers[name] = Caller()
        finish = max(self._virtual, caller.finish)
        for entry in entries:
            tokens = entry.item.tokens
            entry.tag = finish
            entry.number = next(self._numbers)
            finish += tokens
            heapq.heappush(self._buckets.setdefault(_bucket(tokens), []), entry)
            entry.job.waiting[entry.number] = entry
            entry.job.waiting_tokens += tokens
            self._count(entry, caller, 1)
        caller.finish = finish

    def drop(self, job: Job) -> list[Waiting]:
        """Takes out all items of a job that still wait."""
        dropped = list(job.waiting.values())
        job.waiting.clear()
        job.waiting_tokens = 0
        if dropped:
            caller = self.callers[job.work.caller]
            for entry in dropped:
                entry.live = False
                self._count(entry, caller, -1)
            self._dead += len(dropped)
            if self._dead > _SWEEP_ENTRIES + self.items:
                self._sweep()
        return dropped

    def seal(self, budget: Budget, cost: CostModel) -> tuple[list[Waiting], Closed]:
        """Takes the first item in the fair order and those that are cheaper with it than alone.

        Since the first item is always in, no length starves.
        """
        first = self._first()
        if first is None:
            return [], Closed.DRAINED
        self._virtual = max(self._virtual, first.tag)
        latest = first.tag + budget.window_tokens
        oldest = _bucket(first.item.tokens)
        # Longer items, too, where the first may as well ride with them.
        widest = oldest
        for bucket in self._buckets:
            if (
                bucket > widest
                and self._rides(oldest, (bucket + 1) * _BUCKET_TOKENS, cost)
                and self._top(bucket, latest) is not None
            ):
                widest = bucket
        self._take(first)
        batch = [first]
        width = first.item.tokens
        for bucket in sorted((b for b in self._buckets if b <= widest), reverse=True):
            while (entry := self._top(bucket, latest)) and self._rides(bucket, width, cost):
                wider = max(width, entry.item.tokens)
                rows = len(batch) + 1
                if (
                    rows * wider > budget.padded_tokens
                    or cost.seconds(rows, wider) > budget.seconds
                ):
                    return batch, Closed.FULL
                width = wider
                self._take(entry)
                batch.append(entry)
        return batch, Closed.LENGTH if self.items else Closed.DRAINED

    def _first(self) -> Waiting | None:
        """The first item in the fair order."""
        tops = (self._top(bucket) for bucket in list(self._buckets))
        return min((entry for entry in tops if entry is not None), default=None)

    def _top(self, bucket: int, latest: float | None = None) -> Waiting | None:
        """The bucket's first live item, None when its tag is later than that."""
        entries = self._buckets.get(bucket)
        while entries and not entries[0].live:
            heapq.heappop(entries)
            self._dead -= 1
        if not entries:
            self._buckets.pop(bucket, None)
            return None
        return entries[0] if latest is None or entries[0].tag <= latest else None

    def _rides(self, bucket: int, width: int, cost: CostModel) -> bool:
        """Whether the bucket's next item is cheaper in a batch so wide than with its like."""
        entries = self._buckets[bucket]
        tokens = entries[0].item.tokens
        padding = width - tokens
        return tokens >= _LEAST_FILL * width or padding * len(entries) <= cost.overhead_tokens

    def _take(self, entry: Waiting) -> None:
        """Takes out the first of its bucket."""
        bucket = _bucket(entry.item.tokens)
        heapq.heappop(self._buckets[bucket])
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        job = entry.job
        del job.waiting[entry.number]
        job.waiting_tokens -= entry.item.tokens
        self._count(entry, self.callers[job.work.caller], -1)

    def _count(self, entry: Waiting, caller: Caller, sign: int) -> None:
        item = entry.item
        self.items += sign
        self.tokens += sign * item.tokens
        self.bytes += sign * (item.token_ids.nbytes + item.type_ids.nbytes)
        caller.items += sign
        caller.tokens += sign * item.tokens

    def _sweep(self) -> None:
        for bucket in list(self._buckets):
            live = [entry for entry in self._buckets[bucket] if entry.live]
            heapq.heapify(live)
            if live:
                self._buckets[bucket] = live
            else:
                del self._buckets[bucket]
        self._dead = 0

    def _forget_idle(self) -> None:
        if len(self.callers) >= _IDLE_CALLERS:
            self.callers = {
                name: caller
                for name, caller in self.callers.items()
                if caller.items or caller.finish > self._virtual
            }


def _bucket(tokens: int) -> int:
    return (tokens - 1) // _BUCKET_TOKENS
