"""When documents expire: by the retriever's clock, which is that of this machine."""

import time

from tests.chaos.model.state import NEVER, State

# Clocks are set now and then; so near its time a document may be there or not.
_SLACK_NS = 50_000_000
# An unanswered call may be done until its process has ended.
CALL_ENDS_WITHIN_NS = 300_000_000_000


def between(
    states: frozenset[State], since_ns: int, until_ns: int | None = None
) -> frozenset[State]:
    """What the states are seen as at the moments of a stretch of time that ends now, or at
    `until_ns`: those whose time comes in it as there and as gone, those whose time was over
    before it as gone alone.

    Whether what is gone has been swept makes no difference to any answer: versions count on
    either way, and a condition, a read or a filter sees no document. Once its tombstone is
    purged, a second after the deletion or later, it is as if it never was.
    """
    until_ns = time.time_ns() if until_ns is None else until_ns
    seen: set[State] = set()
    for state in states:
        expires_ns = state.expires_ns
        if not state.live or expires_ns is None or expires_ns > since_ns - _SLACK_NS:
            seen.add(state)
        if state.live and expires_ns is not None and expires_ns <= until_ns + _SLACK_NS:
            seen.add(state.gone())
    if any(not state.live for state in seen):
        seen.add(NEVER)
    return frozenset(seen)
