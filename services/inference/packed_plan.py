"""Which of the items that wait fill the rows of a packed batch."""

from collections.abc import Callable, Sequence

from services.inference.batch_plan import Budget, Near, Plan, bucket_of, least_tokens
from services.inference.cost import CostModel
from services.inference.packing import Packing

# Behind the rows of a packed batch each item has one as wide as the longest: their tokens
# together are at most so many times those of a batch.
_UNPACKED = 4

Candidate = tuple[int, int, int]
"""Tokens of an item, its bucket and its place there."""


def packed_plan(
    lengths: tuple[int, Near],
    length: Callable[[int, int], int],
    packing: Packing,
    budget: Budget,
    cost: CostModel,
    usual: float,
) -> Plan:
    """Rows as wide as the first item needs, as full as what waits can fill them.

    `lengths`: the first item's tokens, and what else there is; `length(bucket, place)`: tokens
    of an item. Of the counts of rows that the budget has room for, the one that saves the most
    against `usual` seconds a token.
    """
    first_tokens, near = lengths
    width = packing.width(first_tokens)
    counts = [
        rows
        for rows in packing.row_counts(width)
        if rows * width <= budget.padded_tokens and cost.seconds(1, rows * width) <= budget.seconds
    ]
    most = max(counts, default=1)
    left = _candidates(near, length, most, width)
    packed, free, longest = [first_tokens], width - first_tokens, first_tokens
    taken: list[tuple[int, int]] = []
    ends: list[int] = []
    for _ in range(most):
        row = fullest(free, [tokens for tokens, _, _ in left])
        longest = max([longest, *(left[at][0] for at in row)])
        room = _UNPACKED * packing.batch_tokens // longest - len(packed)
        if room <= 0:
            break
        row = row[:room]
        for at in row:
            tokens, number, place = left[at]
            packed.append(tokens)
            taken.append((number, place))
        for at in reversed(row):
            del left[at]
        ends.append(len(packed))
        free = width
        if not left:
            break

    full = len(taken) < sum(count for _, count in near)

    def plan(items: int) -> Plan:
        rows, wide = packing.shape(packed[:items])
        seconds = cost.seconds(items, rows * wide / items)
        return Plan(taken[: items - 1], full, seconds, sum(packed[:items]))

    fewer = {ends[rows - 1] for rows in counts if rows <= len(ends)} | {len(packed)}
    return max(map(plan, fewer), key=lambda plan: usual * plan.tokens - plan.seconds)


def _candidates(
    near: Near, length: Callable[[int, int], int], rows: int, width: int
) -> list[Candidate]:
    """The longest first, of each bucket no more than so many rows have room for."""
    widest = bucket_of(width)
    return [
        (length(number, place), number, place)
        for number, count in near
        if number <= widest
        for place in range(min(count, rows * (width // least_tokens(number))))
    ]


def fullest(free: int, lengths: Sequence[int]) -> list[int]:
    """Ascending indices of those that fill `free` tokens best, the first ones rather than others.

    Subset sums by dynamic programming, a bit for each sum (Bellman, 1957): to fill each row with
    the longest that fits uses up the short ones that would fill the rest of the next row, and
    leaves 3 to 4 % of 16 messages of 32 mixed texts empty.
    """
    within = (2 << free) - 1
    wanted = 1 << free
    # Bit s of the n-th: some of the first n make s tokens.
    reached = [1]
    sums = 1
    for tokens in lengths:
        if sums & wanted:
            break
        sums |= sums << tokens & within
        reached.append(sums)
    total = sums.bit_length() - 1
    chosen = []
    for at in range(len(reached) - 2, -1, -1):
        # Where it can be had without this one, it is.
        if not reached[at] >> total & 1:
            chosen.append(at)
            total -= lengths[at]
    chosen.reverse()
    return chosen
