"""Whether work is let in: asked before it costs anything, answered at once."""

import asyncio
import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Protocol

from services.inference.batch import TokenizedItem
from services.inference.lane import Lane
from services.inference.work import BatchedRows, Work
from sirdar.errors import DeadlineExceeded, ResourceExhausted

_LEAST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 0.05, 30.0
# Its id and its type, int64 each; a float32 of a row.
_TOKEN_BYTES, _COMPONENT_BYTES = 16, 4
# From the last row to the caller.
_ANSWER_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, for each priority."""

    items: int
    tokens: int
    bytes: int
    """Of tokens and of rows to come."""


class Runner(Protocol):
    """What an admission needs of the batcher."""

    dimensions: int

    def predicted_seconds(self, lane: Lane, caller: str, items: int, tokens: int) -> float: ...
    async def run_admitted(
        self, lane: Lane, items: Sequence[TokenizedItem], work: Work
    ) -> BatchedRows: ...


class Admission:
    """A place in the queue for work that is still being prepared; a context manager."""

    def __init__(
        self,
        runner: Runner,
        lane: Lane,
        work: Work,
        *,
        items: int,
        tokens: int,
        predicted_seconds: float,
    ) -> None:
        self.items = items
        """How many of the first items are let in; all, unless the work may be partial."""
        self._runner = runner
        self._lane = lane
        self._work = work
        self._tokens = tokens
        self._predicted_seconds = predicted_seconds
        self._since = time.monotonic()
        self._promised = True
        lane.promise(work.caller, items, tokens)

    def __enter__(self) -> "Admission":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keep()

    async def run(self, items: Sequence[TokenizedItem]) -> BatchedRows:
        """Computes the rows of the items, once.

        Raises DeadlineExceeded when they would come too late, for work that may
        not be partial. Cancelling it takes what still waits out of the queue.
        """
        self._keep()
        try:
            result = await self._runner.run_admitted(self._lane, items, self._work)
        except DeadlineExceeded:
            self._learn()
            raise
        except asyncio.CancelledError:
            # A call is cancelled at its deadline, too.
            if self._work.deadline is not None and time.monotonic() >= self._work.deadline:
                self._learn()
            raise
        if not result.dropped:
            self._learn()
        return result

    def _learn(self) -> None:
        self._lane.forecast.observe(self._predicted_seconds, time.monotonic() - self._since)

    def _keep(self) -> None:
        if self._promised:
            self._promised = False
            self._lane.keep(self._work.caller, self.items, self._tokens)


def admit(
    runner: Runner, lane: Lane, limits: QueueLimits, work: Work, items: int, tokens: int
) -> Admission:
    """Lets work in, or raises ResourceExhausted that says when to retry."""
    more = (lane.items + items, lane.tokens + tokens)
    if lane.items and _too_much(limits, *more, runner.dimensions):
        lane.metrics.shed.inc(items)
        raise ResourceExhausted(
            f"{lane.items} items ({lane.tokens} tokens) wait for the model already; "
            "retry later, send less at once, or add replicas",
            retry_after=_retry_after(runner.predicted_seconds(lane, "", 0, 0) / 2),
        )

    def predicted(count: int) -> float:
        """Seconds until the first so many items are done, by the cost model."""
        return runner.predicted_seconds(lane, work.caller, count, tokens * count // max(items, 1))

    def admission(count: int, seconds: float) -> Admission:
        share = tokens * count // max(items, 1)
        return Admission(runner, lane, work, items=count, tokens=share, predicted_seconds=seconds)

    seconds = predicted(items)
    if work.deadline is None or not items:
        return admission(items, seconds)
    left = work.deadline - time.monotonic() - _ANSWER_SECONDS
    safe = lane.forecast.safe
    if seconds * safe <= left:
        return admission(items, seconds)
    in_time = range(items + 1) if work.partial else range(1)
    # The largest count that is not late; 0 when one is.
    count = max(0, bisect.bisect_right(in_time, left, lo=1, key=lambda n: predicted(n) * safe) - 1)
    if count:
        return admission(count, predicted(count))
    lane.metrics.hopeless.inc(items)
    raise ResourceExhausted(
        f"what waits for the model would not leave time until the deadline in {left:.3f} s; "
        "retry later, allow more time, send less at once, or add replicas",
        reason="DEADLINE_TOO_NEAR",
        retry_after=_retry_after(seconds * safe - left),
    )


def _too_much(limits: QueueLimits, items: int, tokens: int, dimensions: int) -> bool:
    size = tokens * _TOKEN_BYTES + items * dimensions * _COMPONENT_BYTES
    return items > limits.items or tokens > limits.tokens or size > limits.bytes


def _retry_after(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS))
