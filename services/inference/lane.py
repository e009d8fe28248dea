"""What waits in one priority: queued work, promised work, and how long it will take."""

import time
from collections import deque
from dataclasses import dataclass

from services.inference.length_queue import LengthQueue
from services.inference.metrics import ClassMetrics
from services.inference.work import Priority, Waiting
from sirdar.errors import DeadlineExceeded, SirdarError

# Weights of a new sample in the mean and the deviation, and how many deviations a promise
# keeps as reserve: the estimator of TCP's retransmission timer (Jacobson and Karels, 1988).
_MEAN_WEIGHT, _DEVIATION_WEIGHT, _DEVIATIONS = 1 / 16, 1 / 16, 3.0
# Shorter predictions are mostly what the machine does beside the engine.
_LEAST_SECONDS = 0.02
_LEAST_RATIO, _MOST_RATIO = 0.25, 4.0


class Forecast:
    """How far off the predicted times were: actual over predicted, mean and deviation."""

    def __init__(self) -> None:
        self._mean = 1.0
        self._deviation = 0.05

    @property
    def safe(self) -> float:
        """What to multiply a predicted time with for a time that few exceed."""
        return self._mean + _DEVIATIONS * self._deviation

    def observe(self, predicted_seconds: float, actual_seconds: float) -> None:
        if predicted_seconds < _LEAST_SECONDS:
            return
        ratio = min(max(actual_seconds / predicted_seconds, _LEAST_RATIO), _MOST_RATIO)
        error = ratio - self._mean
        self._mean += _MEAN_WEIGHT * error
        self._deviation += _DEVIATION_WEIGHT * (abs(error) - self._deviation)


@dataclass(slots=True)
class Promise:
    """Work that was let in and is on its way into the queue."""

    items: int = 0
    tokens: int = 0

    def add(self, items: int, tokens: int) -> None:
        self.items += items
        self.tokens += tokens


class Lane:
    """The queue of one priority of one model, and its metrics."""

    def __init__(self, model: str, priority: Priority) -> None:
        self.priority = priority
        self.queue = LengthQueue()
        self.forecast = Forecast()
        self.metrics = ClassMetrics(model, priority.value)
        self.promised = Promise()
        # Halves of batches that failed: they come first.
        self.retries: deque[list[Waiting]] = deque()
        self._promises: dict[str, Promise] = {}
        # Asked for when Prometheus scrapes: free for the calls.
        self.metrics.queued_items.set_function(lambda: self.queue.items)
        self.metrics.queued_tokens.set_function(lambda: self.queue.tokens)

    @property
    def items(self) -> int:
        """Queued or promised."""
        return self.queue.items + self.promised.items

    @property
    def tokens(self) -> int:
        return self.queue.tokens + self.promised.tokens

    @property
    def waits(self) -> bool:
        """Whether there is something to compute."""
        return bool(self.queue.items or self.retries)

    def abandon(self, error: SirdarError) -> None:
        """Ends all that waits with an error and begins anew."""
        jobs = self.queue.jobs() | {entry.job for half in self.retries for entry in half}
        self.queue = LengthQueue()
        self.retries.clear()
        for job in jobs:
            job.waiting.clear()
            job.fail(error)

    def promise(self, caller: str, items: int, tokens: int) -> None:
        self.promised.add(items, tokens)
        self._promises.setdefault(caller, Promise()).add(items, tokens)

    def keep(self, caller: str, items: int, tokens: int) -> None:
        """The promised work is in the queue now, or never will be."""
        self.promised.add(-items, -tokens)
        promise = self._promises[caller]
        promise.add(-items, -tokens)
        if not promise.items:
            del self._promises[caller]

    def ahead(self, caller: str, tokens: int) -> tuple[int, float]:
        """Items and tokens that are computed before the last of so many more of a caller.

        In fair shares each caller has as much computed until then, as far as it waits.
        """
        mine = self._waiting_tokens(caller) + tokens
        total = float(self._waiting_tokens(caller))
        for name in self.queue.callers.keys() | self._promises.keys():
            if name != caller:
                total += min(self._waiting_tokens(name), mine)
        share = total / self.tokens if self.tokens else 0.0
        return round(self.items * share), total

    def live(
        self, batch: list[Waiting], token_seconds: float, batch_seconds: float
    ) -> list[Waiting]:
        """Those of a batch whose callers can still be answered in time; ends the others.

        `token_seconds`: what a token is sure to take; `batch_seconds`: what the
        batch is likely to take, within which partial work must be done.
        """
        now = time.monotonic()
        alive = []
        for entry in batch:
            job = entry.job
            if job.done.done():  # cancelled, or its deadline passed an item earlier
                gone = job.done.cancelled()
                (self.metrics.cancelled if gone else self.metrics.expired).inc()
                continue
            deadline = job.work.deadline
            if deadline is not None:
                sure = (job.waiting_tokens + entry.tokens) * token_seconds
                if now + (batch_seconds if job.work.partial else sure) > deadline:
                    self._end(entry)
                    continue
            alive.append(entry)
        # Once a request: 5 us, and its items came together.
        for job in {entry.job for entry in alive}:
            self.metrics.wait_seconds.observe(now - job.since)
        return alive

    def _end(self, entry: Waiting) -> None:
        """What the caller of an item still waits for would come too late."""
        job = entry.job
        rest = [entry, *self.queue.drop(job)]
        self.metrics.expired.inc(len(rest))
        if job.work.partial:
            job.dropped.update(one.index for one in rest)
            job.settle(len(rest))
            return
        self.metrics.wasted_tokens.inc(job.computed_tokens)
        job.fail(
            DeadlineExceeded(
                "the deadline passed while the request waited for the model; "
                "allow more time or send less at once"
            )
        )

    def _waiting_tokens(self, name: str) -> int:
        queued = self.queue.callers.get(name)
        promised = self._promises.get(name)
        return (queued.tokens if queued else 0) + (promised.tokens if promised else 0)
