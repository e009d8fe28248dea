"""Items that wait for an engine: fair between callers, and findable by length."""

import bisect
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.batch_plan import Budget, bucket_of, padded_plan
from services.inference.buckets import Buckets
from services.inference.cost import CostModel
from services.inference.packed_plan import packed_plan
from services.inference.packing import Packing
from services.inference.work import Job, Waiting

# How much of what batches took so far the next one leaves in the mean of them.
_REMEMBERED = 0.98
# What padding and overhead add to a token: before there is a mean, and at most, which a few
# short texts a batch come to.
_FIRST_SURPLUS, _MOST_SURPLUS = 1.2, 4.0
# So many callers are remembered, and those that have items in the queue.
_MOST_CALLERS = 256


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
        self.callers: dict[str, Caller] = {}
        self._virtual = 0.0
        self._numbers = itertools.count()
        # Fading sums over batches.
        self._batched_seconds = 0.0
        self._batched_tokens = 0.0
        # Each in the fair order.
        self._buckets: dict[int, list[Waiting]] = {}

    def push(self, entries: Sequence[Waiting]) -> None:
        """Adds items of one job."""
        if not entries:
            return
        if not self.items:
            # A busy period begins: nobody has had more than others in it.
            self.callers.clear()
        name = entries[0].job.work.caller
        caller = self.callers.get(name)
        if caller is None:
            self._forget_idle()
            caller = self.callers[name] = Caller()
        job = entries[0].job
        finish = max(self._virtual, caller.finish)
        for entry in entries:
            tokens = entry.tokens
            entry.tag = finish
            entry.number = next(self._numbers)
            finish += tokens
            bucket = self._buckets.setdefault(bucket_of(tokens), [])
            if bucket and entry < bucket[-1]:
                bisect.insort(bucket, entry)
            else:
                bucket.append(entry)
            job.waiting[entry.number] = entry
        tokens = sum([entry.tokens for entry in entries])
        job.waiting_tokens += tokens
        self._count(caller, len(entries), tokens)
        caller.finish = finish

    def jobs(self) -> set[Job]:
        """All that have items here."""
        return {entry.job for bucket in self._buckets.values() for entry in bucket}

    def drop(self, job: Job) -> list[Waiting]:
        """Takes out all items of a job that still wait."""
        dropped = list(job.waiting.values())
        for entry in dropped:
            number = bucket_of(entry.tokens)
            bucket = self._buckets[number]
            del bucket[bisect.bisect_left(bucket, entry)]
            if not bucket:
                del self._buckets[number]
            self._leave(entry)
        return dropped

    def seal(
        self, budget: Budget, cost: CostModel, layout: Packing | Buckets | None = None
    ) -> tuple[list[Waiting], Closed]:
        """Takes the first item in the fair order, and those that make the best batch with it.

        The best batch saves the most against what its tokens usually take,
        padding and overhead counted: to maximise a ratio in the long run, maximise
        the difference at its present value (Dinkelbach, 1967). A batch of the
        highest tokens a second instead would pad short items that fit better later:
        16 messages of 32 mixed texts got 0.86 of what sorting all of them gives,
        against 0.92. Since the first item is always in, no length starves. With a
        packing the batch is in the order to be packed in.
        """
        if not self._buckets:
            return [], Closed.DRAINED
        usual = self._usual(cost)
        first = min(bucket[0] for bucket in self._buckets.values())
        self._virtual = max(self._virtual, first.tag)
        near = self._near(first, budget.window_tokens)
        del self._buckets[bucket_of(first.tokens)][0]
        lengths = first.tokens, near
        if isinstance(layout, Packing):
            plan = packed_plan(lengths, self._length, layout, budget, cost, usual)
        else:
            plan = padded_plan(lengths, layout, budget, cost, usual)
        batch = [first, *(self._buckets[number][place] for number, place in plan.taken)]
        chosen: dict[int, set[int]] = {bucket_of(first.tokens): set()}
        for number, place in plan.taken:
            chosen.setdefault(number, set()).add(place)
        for number, places in chosen.items():
            self._take_out(number, places)
        for entry in batch:
            self._leave(entry)
        if not self.items:
            return batch, Closed.DRAINED
        # Not of single items on an idle engine, which say nothing of a queue.
        self._batched_seconds = _REMEMBERED * self._batched_seconds + plan.seconds
        self._batched_tokens = _REMEMBERED * self._batched_tokens + plan.tokens
        return batch, Closed.FULL if plan.full else Closed.LENGTH

    def _take_out(self, number: int, places: set[int]) -> None:
        """In one go: taken out one by one, each item would move a long bucket's all others."""
        bucket = self._buckets[number]
        end = max(places, default=-1) + 1
        bucket[:end] = [entry for place, entry in enumerate(bucket[:end]) if place not in places]
        if not bucket:
            del self._buckets[number]

    def _usual(self, cost: CostModel) -> float:
        """Seconds that batches took for a token of late."""
        if not self._batched_tokens:
            return _FIRST_SURPLUS * cost.token_seconds
        most = _MOST_SURPLUS * cost.token_seconds
        return min(self._batched_seconds / self._batched_tokens, most)

    def _near(self, first: Waiting, window_tokens: float) -> list[tuple[int, int]]:
        """Buckets, the longest first, with how many may ride with the first in the fair order."""
        latest = first.tag + window_tokens
        found = []
        for number in sorted(self._buckets, reverse=True):
            bucket = self._buckets[number]
            if bucket[-1].tag <= latest:
                count = len(bucket)
            else:
                count = bisect.bisect_right(bucket, latest, key=lambda entry: entry.tag)
            found.append((number, count - (bucket[0] is first)))
        return found

    def _length(self, number: int, place: int) -> int:
        return self._buckets[number][place].tokens

    def _leave(self, entry: Waiting) -> None:
        job = entry.job
        del job.waiting[entry.number]
        job.waiting_tokens -= entry.tokens
        self._count(self.callers[job.work.caller], -1, -entry.tokens)

    def _count(self, caller: Caller, items: int, tokens: int) -> None:
        self.items += items
        self.tokens += tokens
        caller.items += items
        caller.tokens += tokens

    def _forget_idle(self) -> None:
        if len(self.callers) < _MOST_CALLERS:
            return
        for least in (self._virtual, float("inf")):
            for name, caller in list(self.callers.items()):
                if not caller.items and caller.finish <= least:
                    del self.callers[name]
            if len(self.callers) < _MOST_CALLERS:
                return
