"""Queries a second at a recall, from a curve measured at several widths of search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What a search of one width gave."""

    recall: float
    queries_per_second: float


def at_recall(curve: Sequence[Point], recall: float) -> float | None:
    """Queries a second at a recall: between the two points around it the logarithm is taken to
    go straight. None: the curve does not reach so far; where all of it is beyond the recall, its
    fastest point."""
    points = sorted(curve, key=lambda point: point.recall)
    better = [point for point in points if point.recall >= recall]
    worse = [point for point in points if point.recall < recall]
    if not better:
        return None
    if not worse:
        return max(point.queries_per_second for point in better)
    low, high = worse[-1], better[0]
    share = (recall - low.recall) / (high.recall - low.recall)
    first, last = math.log(low.queries_per_second), math.log(high.queries_per_second)
    return math.exp(first + share * (last - first))
