"""A circuit breaker: who fails again and again is left alone, and tried now and then."""

import random
import time
from collections.abc import Callable

from sirdar.errors import SirdarError

# In a row, or so many of the calls of late: what flaps seldom fails five times in a row.
_CONSECUTIVE = 5
_SHARE = 0.45
# A call's weight in that share: about the last twenty count.
_WEIGHT = 0.05
# Between probes. A tier that is back is used again within the longest of them.
_FIRST_SECONDS, _MOST_SECONDS = 0.1, 0.5
# Gateways that lost a tier at the same moment must not all ask at the same moment.
_JITTER = 0.2


class Breaker:
    """Closed: calls go through. Open: one does at each end of a pause, until one succeeds."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(1 - _JITTER, 1 + _JITTER),
    ) -> None:
        self._now = now
        self._jitter = jitter
        self.open = False
        self.last: SirdarError | None = None
        """The failure that it was opened for, or the last probe's."""
        self._in_a_row = 0
        self._share = 0.0
        self._pause_seconds = _FIRST_SECONDS
        self._probe_at = 0.0

    @property
    def probe_due(self) -> bool:
        return self.open and self._now() >= self._probe_at

    def lets_through(self) -> bool:
        """Whether a call may be made. Each True of an open breaker is a probe."""
        if not self.open:
            return True
        if not self.probe_due:
            return False
        # Not waiting for this probe's end: it may hang, and the tier be back before it does.
        self._pause()
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._share *= 1 - _WEIGHT
        if self.open:
            self.open = False
            self._share = 0.0
            self._pause_seconds = _FIRST_SECONDS

    def failed(self, error: SirdarError) -> None:
        self._in_a_row += 1
        self._share += _WEIGHT * (1 - self._share)
        if self.open:
            self.last = error
        elif self._in_a_row >= _CONSECUTIVE or self._share > _SHARE:
            self.open = True
            self.last = error
            self._pause()

    def _pause(self) -> None:
        self._probe_at = self._now() + self._pause_seconds * self._jitter()
        self._pause_seconds = min(2 * self._pause_seconds, _MOST_SECONDS)
