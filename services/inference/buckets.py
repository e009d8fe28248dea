"""Which shapes a GPU computes: few, so that each can be made ready before there are callers."""

from dataclasses import dataclass
from functools import cache

# Rows are widened to one of these; above 16 tokens less than 0.3 of one is padding. Multiples
# of 8, by which attention kernels load.
_WIDTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
# Beyond the table.
_WIDTH_STEP = 128


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rounds the shapes of batches up."""

    batch_tokens: int
    """The most padded tokens that a batch has, unless a single row has more."""
    max_tokens: int
    """The model's window: it may have no positions behind it."""

    def width(self, tokens: int) -> int:
        """Of rows whose longest has so many tokens."""
        for width in _WIDTHS:
            if tokens <= width:
                break
        else:
            width = -(-tokens // _WIDTH_STEP) * _WIDTH_STEP
        return max(tokens, min(width, self.max_tokens))

    def shape(self, rows: int, tokens: int) -> tuple[int, int]:
        """Rows and width that are computed for so many items, the longest with so many tokens."""
        width = self.width(tokens)
        if width not in self.widths():
            return rows, width
        return next((count for count in self._row_counts(width) if count >= rows), rows), width

    def widths(self) -> tuple[int, ...]:
        """All that there are up to the model's window."""
        return _widths(self.max_tokens)

    def shapes(self) -> list[tuple[int, int]]:
        """All rows and widths of batches within `batch_tokens`."""
        return [(rows, width) for width in self.widths() for rows in self._row_counts(width)]

    def _row_counts(self, width: int) -> tuple[int, ...]:
        return _counts(max(1, self.batch_tokens // width))


# Asked for with every batch.
@cache
def _widths(max_tokens: int) -> tuple[int, ...]:
    return tuple(sorted({min(width, max_tokens) for width in (*_WIDTHS, max_tokens)}))


@cache
def _counts(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12 and so on, a third of them padding at most; the most last."""
    steps = {count << power for power in range(most.bit_length()) for count in (2, 3)}
    return tuple(sorted({1, most, *(step for step in steps if step < most)}))
