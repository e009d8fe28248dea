"""Which shapes an engine computes that packs several items into a row.

A row of one item is as wide as the longest item beside it: mixed texts have a tenth of
padding even when they are well sorted, and each batch another shape, for which OpenVINO
prepares its graph anew (1.2 ms). Packed rows (Krell et al., 2021, "Efficient sequence packing
without cross-contamination") are full, and of few shapes.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

# A row for items up to so many tokens. Attention costs grow with the width: of
# all-MiniLM-L6-v2 in bf16 768 tokens take 31.3 ms in rows of 64, 33.1 of 128 and 38.6 of 256.
_WIDTH = 128
# One row is enough for a short query alone.
_SINGLE_WIDTHS = (16, 32, 64)
# Steps of rows: few, and none wastes more than a third.
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Packing:
    """Rows of few widths, of which a batch has one of few counts."""

    batch_tokens: int
    """The most that a batch has, unless a single row has more."""

    def width(self, tokens: int) -> int:
        """Of rows that hold items of so many tokens."""
        width = _WIDTH
        while width < tokens:
            width *= 2
        return width

    def row_counts(self, width: int) -> list[int]:
        """How many rows of a width a batch has, the most last."""
        most = max(1, self.batch_tokens // width)
        return [rows for rows in _ROWS if rows <= most]

    def shape(self, lengths: Sequence[int]) -> Shape:
        """Rows and their width for items that are packed in this order."""
        total = sum(lengths)
        for width in _SINGLE_WIDTHS:
            if total <= width:
                return 1, width
        width = self.width(max(lengths))
        rows, free = 0, 0
        for tokens in lengths:
            if tokens > free:
                rows, free = rows + 1, width
            free -= tokens
        return next((count for count in _ROWS if count >= rows), rows), width

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of items that are all there, batch by batch, in the order to pack them in.

        Each row is begun with the longest item that is left and filled with the longest
        that fits.
        """
        left = sorted((tokens, index) for index, tokens in enumerate(lengths))
        found: list[list[int]] = []
        while left:
            width = self.width(left[-1][0])
            batch: list[int] = []
            for _ in range(self.row_counts(width)[-1]):
                free = width
                while (at := bisect.bisect_right(left, (free, len(lengths)))) > 0:
                    tokens, index = left.pop(at - 1)
                    batch.append(index)
                    free -= tokens
            found.append(batch)
        return found
