"""What reranking costs, learned from what it took."""

from gateway.recent_seconds import RecentSeconds

# A call counts half after so many others.
_HALF_LIFE_CALLS = 50
# Calls take longer than the line says as often as not; so many do not take longer than this.
_CONFIDENCE = 0.9


class RerankCost:
    """Seconds of a call by its passages: a line by least squares of the relative error, with
    exponential forgetting, times what calls took over it lately. Neither its start nor its
    slope is negative."""

    def __init__(self) -> None:
        self._keep = 0.5 ** (1 / _HALF_LIFE_CALLS)
        # Weighted sums of 1, n, n * n, seconds and n * seconds.
        self._ones = self._n = self._nn = self._y = self._ny = 0.0
        self._start_seconds = 0.0
        self._passage_seconds = 0.0
        self._over = RecentSeconds(64)

    def observe(self, passages: int, seconds: float) -> None:
        """A call that scored so many passages took so long."""
        if passages < 1 or seconds <= 0:
            return
        expected = self._line(passages)
        if expected > 0:
            self._over.observe(seconds / expected)
        # A long call is off by more: each counts by the inverse of its own square.
        weight = 1 / (seconds * seconds)
        keep = self._keep
        self._ones = self._ones * keep + weight
        self._n = self._n * keep + weight * passages
        self._nn = self._nn * keep + weight * passages * passages
        self._y = self._y * keep + weight * seconds
        self._ny = self._ny * keep + weight * passages * seconds
        self._solve()

    @property
    def known(self) -> bool:
        """Whether anything was ever observed."""
        return self._passage_seconds > 0

    def passages_within(self, seconds: float) -> int | None:
        """How many passages nine of ten calls can score in this time; None: nothing is known."""
        if not self.known:
            return None
        spare = seconds / self._margin() - self._start_seconds
        return max(0, int(spare / self._passage_seconds))

    def _line(self, passages: int) -> float:
        return self._start_seconds + passages * self._passage_seconds

    def _margin(self) -> float:
        return max(1.0, self._over.quantile(_CONFIDENCE))

    def _solve(self) -> None:
        through_zero = self._ny / self._nn
        spread = self._ones * self._nn - self._n * self._n
        # Calls of one size say nothing of where the line starts.
        if spread <= 1e-9 * self._ones * self._nn:
            self._start_seconds, self._passage_seconds = 0.0, through_zero
            return
        slope = (self._ones * self._ny - self._n * self._y) / spread
        start = (self._y - slope * self._n) / self._ones
        if start < 0 or slope <= 0:
            start, slope = 0.0, through_zero
        self._start_seconds, self._passage_seconds = start, slope
