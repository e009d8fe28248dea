"""Which of the items that wait make the best batch with the one whose turn it is."""

from collections.abc import Callable
from dataclasses import dataclass

from services.inference.buckets import Buckets
from services.inference.cost import CostModel
from services.inference.packing import Packing

# Items in one bucket differ by less than this in length.
BUCKET_TOKENS = 8
# Behind the rows of a packed batch each item has one as wide as the longest: their tokens
# together are at most so many times those of a batch.
_UNPACKED = 4

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
    """How many of which buckets ride with the first item, in the order of the batch."""

    taken: list[tuple[int, int]]
    full: bool
    """The budget ended it."""
    seconds: float
    tokens: float


def bucket_of(tokens: int) -> int:
    """The number of the bucket of items so long."""
    return (tokens - 1) // BUCKET_TOKENS


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
    taken = []
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
        taken.append((number, some))
        rows += some
        tokens += some * middle
    return Plan(taken, full, cost.seconds(rows, width), tokens)


def packed_plan(
    lengths: tuple[int, Near],
    length: Callable[[int, int], int],
    packing: Packing,
    budget: Budget,
    cost: CostModel,
    usual: float,
) -> Plan:
    """Rows as wide as the first item needs, filled with the longest items that fit.

    `length(bucket, place)`: tokens of an item. Of the counts of rows that the budget has room
    for, the one that saves the most against `usual` seconds a token.
    """
    first_tokens, near = lengths
    width = packing.width(first_tokens)
    counts = [
        rows
        for rows in packing.row_counts(width)
        if rows * width <= budget.padded_tokens and cost.seconds(1, rows * width) <= budget.seconds
    ]
    left = dict(near)
    places = dict.fromkeys(left, 0)
    packed, free, longest = [first_tokens], width - first_tokens, first_tokens
    taken: list[tuple[int, int]] = []
    ends = []
    for _ in range(max(counts, default=1)):
        while (number := _longest_that_fits(free, left, places, length)) is not None:
            tokens = length(number, places[number])
            longest = max(longest, tokens)
            if (len(packed) + 1) * longest > _UNPACKED * packing.batch_tokens:
                left = {}
                break
            packed.append(tokens)
            taken.append((number, 1))
            free -= tokens
            places[number] += 1
            left[number] -= 1
        ends.append(len(packed))
        free = width
        if not any(left.values()):
            break

    def plan(items: int) -> Plan:
        rows, wide = packing.shape(packed[:items])
        seconds = cost.seconds(items, rows * wide / items)
        return Plan(taken[: items - 1], any(left.values()), seconds, sum(packed[:items]))

    fewer = {ends[rows - 1] for rows in counts if rows <= len(ends)} | {ends[-1]}
    return max(map(plan, fewer), key=lambda plan: usual * plan.tokens - plan.seconds)


def _longest_that_fits(
    free: int, left: dict[int, int], places: dict[int, int], length: Callable[[int, int], int]
) -> int | None:
    """The bucket of the longest item that is left and has room; within a bucket by their turn."""
    for number in range(bucket_of(free), -1, -1):
        if left.get(number, 0) and length(number, places[number]) <= free:
            return number
    return None
