"""Which sealed segments are to be written again as one.

Two reasons: there are many of about one size, or rows in them died. Each row is
written about log2(n / seal_vectors) times in a shard of n, and once more for
each part of its segment that dies.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

DEAD_SHARE = 0.2
"""A segment with this share of dead rows is written again although writes go on: it costs a
search up to a quarter more, and five rows written for each dead one."""

QUIET_DEAD_SHARE = 0.01
"""The same for a shard that is left alone: what was deleted is then given back but for this."""

MAX_ROWS = 1_000_000
"""Segments of more live rows than half of it are not merged with others: the memory and time
of a merge are bounded, and searching two halves costs little more than the whole."""


class Mergeable(Protocol):
    @property
    def live(self) -> int: ...
    @property
    def rows(self) -> int: ...


QUIET_DEAD_ROWS = 64
"""Fewer dead rows than this are not worth the start of a process."""

M = TypeVar("M", bound=Mergeable)


def merge(segments: Sequence[M], *, quiet: bool) -> tuple[M, ...]:
    """The segments to write as one next; empty: none.

    Afterwards each has more live rows than all smaller ones together.
    """
    chosen = 0
    smaller = 0
    by_size = sorted(segments, key=lambda segment: segment.live)
    for number, segment in enumerate(by_size):
        if segment.live > MAX_ROWS // 2 or smaller + segment.live > MAX_ROWS:
            break
        if number and segment.live <= smaller:
            chosen = number + 1
        smaller += segment.live
    if chosen:
        return tuple(by_size[:chosen])
    worn = [segment for segment in segments if _worn(segment, quiet)]
    return tuple(sorted(worn, key=lambda segment: segment.live / segment.rows)[:1])


def along(segments: Sequence[M], rows: int) -> tuple[M, ...]:
    """The segments that are written again with so many new rows, rather than right after:
    those that are no larger."""
    return tuple(segment for segment in segments if segment.live <= rows)


def _worn(segment: Mergeable, quiet: bool) -> bool:
    dead = segment.rows - segment.live
    if dead >= DEAD_SHARE * segment.rows:
        return dead > 0
    return quiet and dead >= max(QUIET_DEAD_ROWS, QUIET_DEAD_SHARE * segment.rows)
