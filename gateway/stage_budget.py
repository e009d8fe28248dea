"""One budget: a caller's deadline, split over the stages of a search by what they took lately."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client import Counter, Histogram

from gateway.metrics import STAGE_SECONDS, STAGES_SKIPPED
from gateway.recent_seconds import RecentSeconds
from gateway.rerank_cost import RerankCost
from services.runtime.deadline import remaining_seconds
from sirdar.errors import DeadlineExceeded
from sirdar.v1 import common_pb2

Stage: TypeAlias = common_pb2.Stage.ValueType

# Fusing, answering and the network on the way back.
_MARGIN_SECONDS = 0.005
# Of the time that the caller still gives, for a stage that can be done without: what comes
# after it may never have been measured.
_OPTIONAL_SHARE = 0.8
_OPTIONAL = frozenset((common_pb2.STAGE_RERANK, common_pb2.STAGE_HIGHLIGHT))
# A stage is begun when it fits more often than not, and leaves those after it time enough for
# nineteen of twenty of theirs.
_TYPICAL, _NEARLY_ALWAYS = 0.5, 0.95
# A stage that never fits is tried so often all the same: it may have become faster.
_PROBE_SECONDS = 1.0
# What was cut off is taken to need so many times the time that it had.
_CUT_OFF = 2.0
# Two have an order; one has none.
_FEWEST_PASSAGES = 2


class StageBudget:
    """What stages took lately, and what each may take of the current call's deadline.

    One for all searches. The deadline is that of the call which is being
    served; without one a stage gets its limit.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._records = {
            stage: _StageRecord.of(stage)
            for stage in common_pb2.Stage.values()
            if stage != common_pb2.STAGE_UNSPECIFIED
        }
        self._rerank_cost = RerankCost()

    def limit_seconds(
        self,
        stage: Stage,
        limit_seconds: float,
        *,
        later: Sequence[Stage] = (),
        optional: bool | None = None,
    ) -> float:
        """What the stage may take now, at most its limit; 0: skip it, it cannot fit.

        `later` are the stages that this search has still to do after it. Time
        is kept for those that it needs, and for the others as far as they fit.
        `optional`: whether the search can do without the stage; unset, that is
        so of reranking and highlights. Only such a stage gets 0.

        Raises DeadlineExceeded when there is no time left for a stage that is needed.
        """
        remaining = remaining_seconds()
        if remaining is None:
            return limit_seconds
        left = remaining - _MARGIN_SECONDS
        can_be_skipped = stage in _OPTIONAL if optional is None else optional
        if not can_be_skipped:
            return min(limit_seconds, self._needed(stage, left, later))
        allowed = min(
            limit_seconds,
            _OPTIONAL_SHARE * remaining,
            left - self._reserved(stage, left, later),
        )
        record = self._records[stage]
        # Where the caller's deadline is not what is short, the tier's circuit breaker decides.
        in_time = allowed == limit_seconds or self._fits(stage, allowed)
        if allowed > 0 and (in_time or record.probes(self._now())):
            return allowed
        record.no_time.inc()
        return 0.0

    def observe(self, stage: Stage, seconds: float, *, cut_off: bool = False) -> None:
        """The stage took so long; `cut_off`: it would have taken longer, nobody knows how long."""
        self._records[stage].observe(seconds, self._now(), cut_off)

    def note_failed(self, stage: Stage) -> None:
        """A search did without the stage: its tier failed, took too long or is left alone."""
        self._records[stage].failed.inc()

    def passages_that_fit(self, passages: int, limit_seconds: float) -> int:
        """How many of so many passages can be reranked in this time: all, the first few, or 0
        when not even two can, which have no order otherwise."""
        if limit_seconds <= 0:
            return 0
        fit = self._rerank_cost.passages_within(limit_seconds)
        if fit is None or fit >= passages:
            return passages
        record = self._records[common_pb2.STAGE_RERANK]
        if fit >= _FEWEST_PASSAGES:
            record.cut.inc()
            return fit
        if record.probes(self._now()):
            return min(passages, _FEWEST_PASSAGES)
        record.no_time.inc()
        return 0

    def observe_rerank(self, passages: int, seconds: float) -> None:
        """The reranker scored so many passages in this time."""
        self._rerank_cost.observe(passages, seconds)

    def _fits(self, stage: Stage, seconds: float) -> bool:
        # A rerank is made to fit by passages_that_fit.
        shrinks = stage == common_pb2.STAGE_RERANK and self._rerank_cost.known
        return shrinks or self._records[stage].recent.quantile(_TYPICAL) <= seconds

    def _needed(self, stage: Stage, left: float, later: Sequence[Stage]) -> float:
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the work was done; allow more time")
        # However slow the later ones are: without this one nothing comes of them.
        return max(left - self._reserved(stage, left, later), left / 2)

    def _reserved(self, stage: Stage, left: float, later: Sequence[Stage]) -> float:
        """What the later stages need, without those that do not fit in any case."""
        own = self._expected(stage)
        needs = [(one in _OPTIONAL, self._expected(one)) for one in later]
        reserved = sum(seconds for optional, seconds in needs if not optional)
        for optional, seconds in needs:
            if optional and own + reserved + seconds <= left:
                reserved += seconds
        return reserved

    def _expected(self, stage: Stage) -> float:
        return self._records[stage].recent.quantile(_NEARLY_ALWAYS)


@dataclass(slots=True)
class _StageRecord:
    """One stage: its times, and when it was last begun although it should not fit."""

    seconds: Histogram
    no_time: Counter
    cut: Counter
    failed: Counter
    recent: RecentSeconds = field(default_factory=RecentSeconds)
    observed_at: float = float("-inf")
    probed_at: float = float("-inf")
    probing: bool = False

    @classmethod
    def of(cls, stage: Stage) -> "_StageRecord":
        name = common_pb2.Stage.Name(stage).removeprefix("STAGE_").lower()
        return cls(
            STAGE_SECONDS.labels(name),
            STAGES_SKIPPED.labels(name, "no_time"),
            STAGES_SKIPPED.labels(name, "cut"),
            STAGES_SKIPPED.labels(name, "failed"),
        )

    def observe(self, seconds: float, now: float, cut_off: bool) -> None:
        self.seconds.observe(seconds)
        if self.probing and not cut_off:
            # What was known is from before it was last given up.
            self.recent.forget()
        self.probing = False
        self.recent.observe(_CUT_OFF * seconds if cut_off else seconds)
        self.observed_at = now

    def probes(self, now: float) -> bool:
        """Whether to begin the stage against the odds: nobody has, for a while."""
        if now - max(self.observed_at, self.probed_at) < _PROBE_SECONDS:
            return False
        self.probed_at = now
        self.probing = True
        return True
