"""Tokenized inputs and how they are laid out for an engine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedItem:
    """One model input: a text, or a pair of texts for a cross-encoder."""

    token_ids: NDArray[np.int64]
    """Shape [tokens], special tokens included."""
    type_ids: NDArray[np.int64]
    """Shape [tokens]; which text of a pair a token is of."""
    truncated: bool = False

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Items that are computed together.

    The arrays are for engines that give each item a row, [rows, tokens], padded on the right
    to the longest. They are made when they are first asked for: engines that pack several
    items into a row take `items`.
    """

    items: Sequence[TokenizedItem]
    pad_token_id: int
    least_width: int = 0
    """The rows are at least so wide."""

    @classmethod
    def pad(cls, items: Sequence[TokenizedItem], pad_token_id: int) -> "TokenBatch":
        return cls(items, pad_token_id)

    def widened(self, width: int) -> "TokenBatch":
        """The same with at least so many tokens a row."""
        return replace(self, least_width=width)

    @property
    def width(self) -> int:
        """Tokens of the longest item."""
        return max(item.tokens for item in self.items)

    @cached_property
    def input_ids(self) -> NDArray[np.int64]:
        filled = np.full(self._shape, self.pad_token_id, np.int64)
        for row, item in zip(filled, self.items, strict=True):
            row[: item.tokens] = item.token_ids
        return filled

    @cached_property
    def attention_mask(self) -> NDArray[np.int64]:
        filled = np.zeros(self._shape, np.int64)
        for row, item in zip(filled, self.items, strict=True):
            row[: item.tokens] = 1
        return filled

    @cached_property
    def token_type_ids(self) -> NDArray[np.int64]:
        filled = np.zeros(self._shape, np.int64)
        for row, item in zip(filled, self.items, strict=True):
            row[: item.tokens] = item.type_ids
        return filled

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.items), max(self.width, self.least_width)


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Items one behind the other in rows of equal width; what no item fills is segment -1."""

    input_ids: NDArray[np.int64]
    """[rows, width], as the next three."""
    token_type_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    """Counted from 0 within each item."""
    segment_ids: NDArray[np.int64]
    """Of which item a token is: tokens see only those of their own."""
    places: NDArray[np.int64]
    """[items, tokens of the longest]: where in the rows, one behind the other, an item's tokens
    are; -1 behind its end."""

    @classmethod
    def pack(
        cls, items: Sequence[TokenizedItem], shape: tuple[int, int], pad_token_id: int
    ) -> "PackedBatch":
        """In their order, each in the row of the one before it where it fits, else in the next."""
        rows, width = shape
        # Rows one behind the other, so that a place is one number.
        input_ids = np.full(rows * width, pad_token_id, np.int64)
        token_type_ids, position_ids = np.zeros_like(input_ids), np.zeros_like(input_ids)
        segment_ids = np.full_like(input_ids, -1)
        counting = np.arange(max(item.tokens for item in items))
        places = np.full((len(items), len(counting)), -1, np.int64)
        start = 0
        for number, item in enumerate(items):
            tokens = item.tokens
            if start % width + tokens > width:
                start += width - start % width
            end = start + tokens
            input_ids[start:end] = item.token_ids
            token_type_ids[start:end] = item.type_ids
            position_ids[start:end] = counting[:tokens]
            segment_ids[start:end] = number
            places[number, :tokens] = counting[:tokens] + start
            start = end
        return cls(
            input_ids.reshape(shape),
            token_type_ids.reshape(shape),
            position_ids.reshape(shape),
            segment_ids.reshape(shape),
            places,
        )
