"""What a batch costs, learned from the batches that were computed."""

import time
from collections.abc import Sequence

import numpy as np

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine

# A batch counts half after so many others: seconds on a busy CPU.
_HALF_LIFE_BATCHES = 50
# The measurements made before serving count like so many recent batches, for ever: traffic of
# one shape says nothing about the others.
_ANCHOR_BATCHES = 4.0
# A batch that the machine stalled says little about the next.
_LEAST, _MOST = 0.25, 4.0
_ROUNDS = 3
# The last two are for GPUs.
_SHAPES = ((1, 8), (1, 32), (1, 128), (8, 8), (8, 32), (4, 128), (32, 16), (128, 64), (256, 128))


class CostModel:
    """Seconds of a batch: overhead + rows * row + padded tokens * token.

    A row is an item; where items share the rows of a batch, their width is the mean, padding
    included.

    Least squares of the relative error with exponential forgetting, over
    features [1, rows, rows * width]; coefficients are never negative. Not
    thread-safe.
    """

    def __init__(self, measured: Sequence[tuple[int, float, float]]) -> None:
        """`measured`: (rows, width in tokens, seconds), before serving; at least one."""
        self._decay = 0.5 ** (1 / _HALF_LIFE_BATCHES)
        self._anchor = _Moments()
        for rows, width, seconds in measured:
            self._anchor.add(rows, width, seconds, keep=1.0)
        self._anchor_weight = _ANCHOR_BATCHES / len(measured)
        self._recent = _Moments()
        self.overhead_seconds = self.row_seconds = self.token_seconds = 0.0
        self._solve()

    def seconds(self, rows: int, width: float) -> float:
        """Of one batch on one stream of the engine."""
        return self.overhead_seconds + rows * self.row_seconds + rows * width * self.token_seconds

    def work_seconds(self, items: int, tokens: float, batch_seconds: float) -> float:
        """Of many items in batches of about `batch_seconds`, on one stream."""
        if not items:
            return 0.0
        pure = items * self.row_seconds + tokens * self.token_seconds
        full = max(batch_seconds - self.overhead_seconds, self.overhead_seconds, 1e-6)
        return pure + self.overhead_seconds * max(1.0, pure / full)

    def observe(self, rows: int, width: float, seconds: float) -> None:
        """Learns from a batch that took so long."""
        expected = self.seconds(rows, width)
        seconds = min(max(seconds, _LEAST * expected), _MOST * expected)
        self._recent.add(rows, width, seconds, keep=self._decay)
        self._solve()

    def _solve(self) -> None:
        solution = _nonnegative(*self._recent.plus(self._anchor, self._anchor_weight))
        self.overhead_seconds, self.row_seconds, token_seconds = solution
        # Never nothing: it is divided by.
        self.token_seconds = max(token_seconds, 1e-9)


class _Moments:
    """Sums over batches of x x' and of x, where x is the features over the seconds.

    Plain floats: for three unknowns NumPy takes 240 us, this 10, with every batch.
    """

    def __init__(self) -> None:
        self.products = [[0.0] * 3 for _ in range(3)]
        self.sums = [0.0] * 3

    def add(self, rows: int, width: float, seconds: float, *, keep: float) -> None:
        """Adds a batch to what was there before times `keep`."""
        x = (1.0 / seconds, rows / seconds, rows * width / seconds)
        for i in range(3):
            self.sums[i] = keep * self.sums[i] + x[i]
            for j in range(3):
                self.products[i][j] = keep * self.products[i][j] + x[i] * x[j]

    def plus(self, other: "_Moments", weight: float) -> tuple[list[list[float]], list[float]]:
        """The products and the sums of both."""
        products = [
            [a + weight * b for a, b in zip(mine, theirs, strict=True)]
            for mine, theirs in zip(self.products, other.products, strict=True)
        ]
        return products, [a + weight * b for a, b in zip(self.sums, other.sums, strict=True)]


def _nonnegative(matrix: list[list[float]], sums: list[float]) -> list[float]:
    """Least squares without negative unknowns: what would be negative is left out."""
    free = list(range(len(sums)))
    solution = [0.0] * len(sums)
    while free:
        part = _eliminate([[matrix[i][j] for j in free] + [sums[i]] for i in free])
        worst = min(part)
        if worst >= 0:
            for index, value in zip(free, part, strict=True):
                solution[index] = value
            break
        free.pop(part.index(worst))
    return solution


def _eliminate(rows: list[list[float]]) -> list[float]:
    """Gauss without pivoting: the matrix is positive definite, its diagonal a little lifted."""
    size = len(rows)
    for i in range(size):
        rows[i][i] *= 1 + 1e-6
    for i in range(size):
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            for j in range(i, size + 1):
                rows[k][j] -= factor * rows[i][j]
    solution = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * solution[j] for j in range(i + 1, size))
        solution[i] = (rows[i][size] - known) / rows[i][i]
    return solution


def calibrate(engine: Engine, *, pad_token_id: int, max_tokens: int) -> CostModel:
    """Measures batches of several shapes; blocks for about half a second on a CPU."""
    batches = []
    for rows, shape_width in _SHAPES:
        width = min(shape_width, max_tokens)
        if rows > 1 and rows * width > engine.info.batch_tokens:
            continue
        item = TokenizedItem(np.full(width, pad_token_id, np.int64), np.zeros(width, np.int64))
        batches.append(TokenBatch.pad([item] * rows, pad_token_id))
    seconds = np.empty((_ROUNDS, len(batches)))
    for turn in seconds:
        # One after the other, as they are served: a shape that was there before is faster.
        for at, batch in enumerate(batches):
            started = time.perf_counter()
            engine.run(batch, 0)
            turn[at] = time.perf_counter() - started
    # The first of a shape is slower than any later one.
    best = np.maximum(seconds.min(axis=0), 1e-6).tolist()
    return CostModel(
        [
            (len(batch.items), engine.info.mean_width([item.tokens for item in batch.items]), one)
            for batch, one in zip(batches, best, strict=True)
        ]
    )
