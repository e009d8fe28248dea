"""Which of the items that wait make the best batch with the one whose turn it is."""

from dataclasses import dataclass

from services.inference.buckets import Buckets
from services.inference.cost import CostModel

# Items in one bucket differ by less than this in length.
BUCKET_TOKENS = 8

Near = list[tuple[int, int]]
"""Buckets, the longest first, with how many items of each may be taken."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a batch may be; a single item may exceed it."""

    seconds: float
    padded_tokens: int
    window_tokens: float
    """How far behind the first item in the fair order another one may be to ride along."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which items ride with the first one."""

    taken: list[tuple[int, int]]
    """Their buckets and their places there, in the order of the batch."""
    full: bool
    """The budget ended it."""
    seconds: float
    tokens: float


def bucket_of(tokens: int) -> int:
    """The number of the bucket of items so long."""
    return (tokens - 1) // BUCKET_TOKENS


def least_tokens(bucket: int) -> int:
    """Of the items in a bucket."""
    return bucket * BUCKET_TOKENS + 1


def padded_plan(
    lengths: tuple[int, Near],
    widths: Buckets | None,
    budget: Budget,
    cost: CostModel,
    usual: float,
) -> Plan:
    """The batch that saves the most against `usual` seconds a token, as wide as one of the buckets.

    `lengths`: the first item's tokens, and what else there is. `widths`: those that rows are
    rounded up to, if they are.
    """
    first_tokens, near = lengths
    oldest = bucket_of(first_tokens)
    plans: list[Plan] = []
    last = 0
    for start, (number, count) in enumerate(near):
        if number < oldest:
            break
        width = (number + 1) * BUCKET_TOKENS
        width = widths.width(width) if widths else width
        # What is shorter and no narrower only leaves longer items out.
        if width != last and (count or number == oldest):
            plans.append(_of_width(width, first_tokens, near[start:], budget, cost, usual))
            last = width
    return max(plans, key=lambda plan: usual * plan.tokens - plan.seconds)


def _of_width(
    width: int, first_tokens: int, near: Near, budget: Budget, cost: CostModel, usual: float
) -> Plan:
    """The batch that is as wide as the first of these buckets needs.

    Shorter items are added as long as their padding costs no more than padding and
    overhead usually do.
    """
    row_seconds = cost.row_seconds + width * cost.token_seconds
    most_seconds = (budget.seconds - cost.overhead_seconds) / row_seconds
    most = int(min(most_seconds, budget.padded_tokens / width))
    rows, tokens, full = 1, float(first_tokens), False
    taken: list[tuple[int, int]] = []
    for number, count in near:
        if not count:
            continue
        middle = number * BUCKET_TOKENS + BUCKET_TOKENS / 2
        # Its row is paid for in any batch; its padding, only in this one.
        surplus = (usual - cost.token_seconds) * middle
        if (width - middle) * cost.token_seconds > surplus and number != near[0][0]:
            break
        if rows >= most:
            full = True
            break
        some = min(count, most - rows)
        full = some < count
        taken += [(number, place) for place in range(some)]
        rows += some
        tokens += some * middle
    return Plan(taken, full, cost.seconds(rows, width), tokens)
