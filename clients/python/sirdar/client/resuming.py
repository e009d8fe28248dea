"""When a stream that broke is followed by another."""

import random
import time

from sirdar.errors import Cancelled, ResourceExhausted, SirdarError, Unavailable

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 1.0


class Resuming:
    """Counts failures since the last answer; gives up `patience_seconds` after the first."""

    def __init__(self, patience_seconds: float) -> None:
        self.failures = 0
        self._patience_seconds = patience_seconds
        self._broken_at: float | None = None

    def answered(self) -> None:
        self.failures = 0
        self._broken_at = None

    def check(self, fault: SirdarError) -> None:
        """Raises the fault if a new stream would not help or did not for too long."""
        now = time.monotonic()
        if self._broken_at is None:
            self._broken_at = now
        if not _passes(fault) or now - self._broken_at > self._patience_seconds:
            raise fault

    def delay_seconds(self, fault: SirdarError) -> float:
        """How long to wait before the next stream."""
        delay = min(_FIRST_DELAY_SECONDS * 2.0**self.failures, _LONGEST_DELAY_SECONDS)
        self.failures = min(self.failures + 1, 10)
        asked = fault.retry_after.total_seconds() if fault.retry_after else 0.0
        # Jitter keeps the clients of a restarted server from arriving together.
        return max(asked, delay * random.uniform(0.5, 1.0))


def _passes(fault: SirdarError) -> bool:
    """Whether another stream may fare better. Cancelled: by the server, when it stops."""
    if isinstance(fault, ResourceExhausted):
        return fault.retry_after is not None
    return isinstance(fault, Unavailable | Cancelled)
