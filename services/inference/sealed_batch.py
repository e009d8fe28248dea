"""A batch from the moment that it is sealed until its items have their rows."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from services.inference.batch import TokenizedItem
from services.inference.engine_threads import ComputedBatch, Outcome
from services.inference.lane import Lane
from services.inference.work import Waiting
from sirdar.errors import Internal, SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class SealedBatch:
    """What a stream of the engine is at, or has just been."""

    lane: Lane
    entries: list[Waiting]
    items: list[TokenizedItem]
    width: float
    """Tokens that are computed for an item."""
    outcome: asyncio.Future[Outcome]

    def fail(self, error: SirdarError) -> None:
        """All of its requests."""
        for entry in self.entries:
            entry.job.fail(error)

    @contextlib.contextmanager
    def pays(self) -> Iterator[None]:
        """What goes wrong in the batcher costs the requests of this batch, and no more."""
        try:
            yield
        except Exception as error:
            log.error("the batcher failed on a batch", exc_info=error)
            self.fail(Internal("the batcher failed on the batch of this request"))

    def answer(self, computed: ComputedBatch, *, shared: bool) -> list[Waiting]:
        """Gives the rows out; those to compute again alone: NaN spreads in `shared` rows."""
        metrics = self.lane.metrics
        wasted = 0
        suspects = []
        for entry, row, good in zip(self.entries, computed.rows, computed.finite, strict=True):
            if entry.job.done.done():
                wasted += entry.tokens
            elif good:
                entry.answer(row)
            elif shared and len(self.entries) > 1:
                suspects.append(entry)
            else:
                metrics.failed.inc()
                entry.fail(
                    Internal("the model answered NaN or infinity", reason="MODEL_OUTPUT_NOT_FINITE")
                )
        if wasted:
            metrics.wasted_tokens.inc(wasted)
        return suspects
