"""The deadline of the call that is being served, for the calls and the work behind it."""

import time
from contextvars import ContextVar

from sirdar.errors import DeadlineExceeded

# Seconds on time.monotonic().
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_deadline(remaining_seconds: float | None) -> None:
    """Sets the deadline of the current call; None: there is none."""
    _deadline.set(None if remaining_seconds is None else time.monotonic() + remaining_seconds)


def deadline() -> float | None:
    """The deadline in seconds on `time.monotonic()`, None without one."""
    return _deadline.get()


def remaining_seconds() -> float | None:
    """The time that is left, never negative, None without a deadline."""
    at = _deadline.get()
    return None if at is None else max(0.0, at - time.monotonic())


def outgoing_timeout(limit_seconds: float, margin_seconds: float = 0.005) -> float:
    """The timeout of a call made for the current one.

    The time that is left less the margin needed to answer, at most the limit.
    Raises DeadlineExceeded when there is none.
    """
    remaining = remaining_seconds()
    if remaining is None:
        return limit_seconds
    if remaining <= margin_seconds:
        raise DeadlineExceeded("the deadline passed before the work was done; allow more time")
    return min(limit_seconds, remaining - margin_seconds)
