"""Tokenized inputs and how they are laid out for an engine."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Items padded on the right to the longest of them; each array [rows, tokens]."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    @classmethod
    def pad(cls, items: Sequence[TokenizedItem], pad_token_id: int) -> "TokenBatch":
        shape = (len(items), max(item.tokens for item in items))
        input_ids = np.full(shape, pad_token_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        token_type_ids = np.zeros(shape, np.int64)
        for row, item in enumerate(items):
            input_ids[row, : item.tokens] = item.token_ids
            attention_mask[row, : item.tokens] = 1
            token_type_ids[row, : item.tokens] = item.type_ids
        return cls(input_ids, attention_mask, token_type_ids)

    def widened(self, width: int, pad_token_id: int) -> "TokenBatch":
        """The same with at least so many tokens a row."""
        more = width - self.input_ids.shape[1]
        if more <= 0:
            return self
        wider = ((0, 0), (0, more))
        return TokenBatch(
            np.pad(self.input_ids, wider, constant_values=pad_token_id),
            np.pad(self.attention_mask, wider),
            np.pad(self.token_type_ids, wider),
        )
