"""What a batch costs, learned from the batches that were computed."""

import time

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine

# A batch counts half after so many others: seconds on a busy CPU.
_HALF_LIFE_BATCHES = 50
# The measurements made before serving count like so many recent batches, for ever: traffic of
# one shape says nothing about the others.
_ANCHOR_BATCHES = 4.0
# A batch that the machine stalled says little about the next.
_LEAST, _MOST = 0.25, 4.0
_SHAPES = ((1, 8), (1, 32), (1, 128), (8, 8), (8, 32), (4, 128), (32, 16))


class CostModel:
    """Seconds of a batch: overhead + rows * row + padded tokens * token.

    Least squares of the relative error with exponential forgetting, over
    features [1, rows, rows * width]; coefficients are never negative. Not
    thread-safe.
    """

    def __init__(self, measured: list[tuple[int, int, float]]) -> None:
        """`measured`: (rows, width in tokens, seconds), before serving; at least one."""
        self._decay = 0.5 ** (1 / _HALF_LIFE_BATCHES)
        anchors = [_features(rows, width) / seconds for rows, width, seconds in measured]
        weight = _ANCHOR_BATCHES / len(anchors)
        self._anchor = weight * sum((np.outer(x, x) for x in anchors), np.zeros((3, 3)))
        self._anchor_sum = weight * sum(anchors, np.zeros(3))
        self._recent = np.zeros((3, 3))
        self._recent_sum = np.zeros(3)
        self.overhead_seconds = self.row_seconds = self.token_seconds = 0.0
        self._solve()

    def seconds(self, rows: int, width: int) -> float:
        """Of one batch on one stream of the engine."""
        return self.overhead_seconds + rows * self.row_seconds + rows * width * self.token_seconds

    def work_seconds(self, items: int, tokens: float, batch_seconds: float) -> float:
        """Of many items in batches of about `batch_seconds`, on one stream."""
        if not items:
            return 0.0
        pure = items * self.row_seconds + tokens * self.token_seconds
        full = max(batch_seconds - self.overhead_seconds, self.overhead_seconds, 1e-6)
        return pure + self.overhead_seconds * max(1.0, pure / full)

    @property
    def overhead_tokens(self) -> float:
        """Padding that costs as much as a batch of its own."""
        return self.overhead_seconds / self.token_seconds

    def observe(self, rows: int, width: int, seconds: float) -> None:
        """Learns from a batch that took so long."""
        expected = self.seconds(rows, width)
        seconds = min(max(seconds, _LEAST * expected), _MOST * expected)
        x = _features(rows, width) / seconds
        self._recent = self._decay * self._recent + np.outer(x, x)
        self._recent_sum = self._decay * self._recent_sum + x
        self._solve()

    def _solve(self) -> None:
        """Non-negative least squares by leaving out what would be negative; three unknowns."""
        matrix = self._anchor + self._recent
        matrix = matrix + np.diag(np.diag(matrix) * 1e-6)
        sums = self._anchor_sum + self._recent_sum
        free = [0, 1, 2]
        solution = np.zeros(3)
        while free:
            part = np.linalg.solve(matrix[np.ix_(free, free)], sums[free])
            if (part >= 0).all():
                solution[free] = part
                break
            free.remove(free[int(np.argmin(part))])
        self.overhead_seconds, self.row_seconds = float(solution[0]), float(solution[1])
        # Never nothing: it is divided by.
        self.token_seconds = max(float(solution[2]), 1e-9)


def _features(rows: int, width: int) -> NDArray[np.float64]:
    return np.array([1.0, rows, rows * width])


def calibrate(engine: Engine, *, pad_token_id: int, max_tokens: int) -> CostModel:
    """Measures batches of several shapes; blocks for about half a second on a CPU."""
    measured = []
    for rows, shape_width in _SHAPES:
        width = min(shape_width, max_tokens)
        if rows > 1 and rows * width > engine.info.batch_tokens:
            continue
        item = TokenizedItem(np.full(width, pad_token_id, np.int64), np.zeros(width, np.int64))
        batch = TokenBatch.pad([item] * rows, pad_token_id)
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            engine.run(batch, 0)
            seconds.append(time.perf_counter() - started)
        # The first of a shape is slower, and slower than any later one.
        measured.append((rows, width, max(min(seconds), 1e-6)))
    return CostModel(measured)
