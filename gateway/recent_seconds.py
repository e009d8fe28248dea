"""How long something took lately."""

from bisect import bisect_left, insort
from collections import deque

# Enough for a p95 that six observations are above; at 100 searches a second a second's worth.
_REMEMBERED = 128


class RecentSeconds:
    """Quantiles of the last observations: exact, and forgotten as new ones come.

    An observation and a quantile cost about a microsecond.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def observe(self, seconds: float) -> None:
        if len(self._in_order) == self._remembered:
            oldest = self._in_order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._in_order.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float:
        """What the share of observations did not exceed; 0 while there are none."""
        if not self._sorted:
            return 0.0
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def forget(self) -> None:
        self._in_order.clear()
        self._sorted.clear()
