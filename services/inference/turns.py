"""Whose turn it is: which batch a stream of the engine gets when it is free."""

import time
from collections.abc import Mapping, Sequence

from services.inference.batch_budget import BatchBudget
from services.inference.cost import CostModel
from services.inference.engine import EngineInfo
from services.inference.lane import Lane
from services.inference.length_queue import Closed
from services.inference.work import Priority, Waiting

# Interactive batches in a row before a bulk batch that waits gets its turn.
_INTERACTIVE_RUN = 7
# Bulk batches are kept small for so long after the last interactive request.
_INTERACTIVE_MEMORY_SECONDS = 2.0
# A job is sure to be late when so much of its predicted time does not fit.
_SURE = 0.8


class Turns:
    """Decides over the lanes of a batcher by the cost model; computes nothing."""

    def __init__(self, info: EngineInfo, cost: CostModel, lanes: Mapping[Priority, Lane]) -> None:
        self.budget = BatchBudget(info, cost)
        self._info = info
        self._cost = cost
        self._lanes = lanes
        self._interactive_run = 0
        self._interactive_at = -_INTERACTIVE_MEMORY_SECONDS
        # The last batch was made smaller, so that idle streams have a part.
        self._shared = False
        # By stream: the lane that it computes for, since when and until when probably.
        self._running: dict[int, tuple[Lane, float, float]] = {}

    @property
    def anything_left(self) -> bool:
        """Whether anything is computed, waits or was promised a place."""
        return bool(self._running) or any(lane.items or lane.waits for lane in self._lanes.values())

    @property
    def oldest_seconds(self) -> float:
        """For how long the engine has been at its oldest batch; 0 where it is at none."""
        now = time.monotonic()
        return max((now - started for _, started, _ in self._running.values()), default=0.0)

    def begin(self, stream: int, lane: Lane, items: int, width: float) -> None:
        """A stream computes so many items of so many tokens each."""
        started = time.monotonic()
        self._running[stream] = (lane, started, started + self._cost.seconds(items, width))

    def end(self, stream: int) -> None:
        """A stream is free, if it was not."""
        self._running.pop(stream, None)

    def interactive_came(self) -> None:
        """Bulk batches are small for a while."""
        self._interactive_at = time.monotonic()

    def queued_seconds(self, lane: Lane) -> float:
        """What waits in a lane, on one stream."""
        return self._cost.work_seconds(lane.items, lane.tokens, self.budget.full_seconds)

    def predicted_seconds(self, lane: Lane, caller: str, items: int, tokens: int) -> float:
        """How long until so many more items of a caller are done, by the cost model."""
        ahead_items, ahead_tokens = lane.ahead(caller, tokens)
        queued = self._cost.work_seconds(
            ahead_items + items, ahead_tokens + tokens, self.budget.full_seconds
        )
        if lane.priority is Priority.BULK:
            queued += self.queued_seconds(self._lanes[Priority.INTERACTIVE])
        streams = self._info.streams
        now = time.monotonic()
        running = sum(max(0.0, until - now) for _, _, until in self._running.values())
        longest = self._cost.seconds(1, tokens // items) if items else 0.0
        return running / streams + max(queued / streams, longest)

    def held_back_seconds(self) -> float:
        """How long what waits is better left to a stream that computes already."""
        if not self._running or self._shared:
            return 0.0
        little = self.budget.little_seconds
        waiting = sum(self.queued_seconds(lane) for lane in self._lanes.values())
        if not 0 < waiting < little:
            return 0.0
        # Twice what was predicted, but no longer than that.
        free = min(2 * until - started for _, started, until in self._running.values())
        seconds = free - time.monotonic()
        return seconds if seconds < little else 0.0

    def seal(self) -> tuple[Lane, list[Waiting]]:
        """The next batch, out of live items only; empty when nothing waits."""
        while (lane := self._next_lane()) is not None:
            if lane.retries:
                half = [one for one in lane.retries.popleft() if not one.job.done.done()]
                if half:
                    return lane, half
                continue
            small = (
                lane.priority is Priority.BULK
                and time.monotonic() - self._interactive_at < _INTERACTIVE_MEMORY_SECONDS
            )
            waiting = self.queued_seconds(lane)
            idle = self._info.streams - len(self._running)
            self._shared = idle > 1 and waiting >= self.budget.little_seconds
            callers = sum(1 for caller in lane.queue.callers.values() if caller.items)
            budget = self.budget.next(waiting, idle if self._shared else 1, callers, small=small)
            batch, closed = lane.queue.seal(budget, self._cost, self._info.layout)
            token_seconds = _SURE * self._cost.token_seconds / self._info.streams
            batch_seconds = self._cost.seconds(len(batch), self.width(batch))
            live = lane.live(batch, token_seconds, batch_seconds)
            if live:
                if closed is Closed.FULL and budget.seconds < self.budget.full_seconds:
                    closed = Closed.SLICE
                lane.metrics.closed[closed].inc()
                return lane, live
        return self._lanes[Priority.INTERACTIVE], []

    def width(self, batch: Sequence[Waiting]) -> float:
        """Tokens that are computed for an item."""
        return self._info.mean_width([entry.tokens for entry in batch])

    def _next_lane(self) -> Lane | None:
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        if not interactive.waits:
            self._interactive_run = 0
            return bulk if bulk.waits else None
        if not bulk.waits:
            return interactive
        # One slice of bulk at a time is in front of interactive work.
        bulk_runs = any(lane is bulk for lane, _, _ in self._running.values())
        if self._interactive_run >= _INTERACTIVE_RUN and not bulk_runs:
            self._interactive_run = 0
            return bulk
        self._interactive_run += 1
        return interactive
