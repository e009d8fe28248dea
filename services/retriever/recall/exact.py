"""Searching a view exactly for one query, in steps that are short."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.filters.allowed import Allowed
from services.retriever.filters.conditions import Condition
from services.retriever.segment import NO_PASSAGE, GrowingView, SegmentView
from services.retriever.shard import ShardView

# 64,000 rows of 384 float16 are 4 ms on one thread; a FAISS scan of a range also passes over
# the rows beside it, at 1.5 ns each.
_STEP_VALUES = 64_000 * 384

# Of the best score. Two ways of adding up 384 float32 products differ by a tenth of it.
_SAME_SCORE = 2e-6


@dataclass(frozen=True, slots=True)
class _Part:
    view: ShardView
    segment: SegmentView
    start: int
    end: int


class ExactSearch:
    """The `k` best of `query`, float32 of shape (1, dimensions), among all live rows, or those
    of documents that meet `condition`.

    Growing segments come first and are let go of: they are memory, whereas
    what sealed ones hold is files.
    """

    def __init__(
        self,
        views: Sequence[ShardView],
        query: NDArray[np.float32],
        k: int,
        condition: Condition | None = None,
    ) -> None:
        self._query = query
        self.k = k
        self._condition = condition
        # Of the view and the segment of the last step.
        self._allowed: tuple[ShardView, Allowed] | None = None
        self._narrowed: tuple[SegmentView, SegmentView] | None = None
        self.scores: NDArray[np.float32] = np.empty(0, np.float32)
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        rows = max(1, _STEP_VALUES // query.shape[1])
        segments = [(view, segment) for view in views for segment in view.segments]
        # Taken from the end.
        self._parts = [
            _Part(view, segment, start, min(start + rows, segment.rows))
            for view, segment in sorted(segments, key=lambda item: isinstance(item[1], GrowingView))
            for start in range(0, segment.rows, rows)
        ]

    @property
    def done(self) -> bool:
        return not self._parts

    def step(self) -> None:
        """Searches some more."""
        part = self._parts.pop()
        segment = self._narrow(part)
        hits = segment.scan(self._query, self.k, part.start, part.end)
        found = hits.ids[0] != NO_PASSAGE
        scores = np.concatenate([self.scores, hits.scores[0, found]])
        ids = np.concatenate([self.ids, hits.ids[0, found]])
        best = np.argsort(-scores, kind="stable")[: self.k]
        self.scores, self.ids = scores[best], ids[best]

    def _narrow(self, part: _Part) -> SegmentView:
        if self._condition is None:
            return part.segment
        if self._narrowed is None or self._narrowed[0] is not part.segment:
            if self._allowed is None or self._allowed[0] is not part.view:
                self._allowed = part.view, part.view.allowed(self._condition)
            self._narrowed = part.segment, part.segment.among(self._allowed[1])
        return self._narrowed[1]

    def recall(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> float | None:
        """The share of the k best, or of all where there are fewer, that an answer has.

        What scores like the k-th best is as right as it. None: there is nothing
        to find.
        """
        if len(self.ids) == 0:
            return None
        same = _SAME_SCORE * float(np.abs(self.scores).max())
        tied = np.abs(scores[: self.k] - self.scores[-1]) <= same
        right = np.isin(ids[: self.k], self.ids) | tied
        return min(1.0, float(right.sum()) / len(self.ids))
