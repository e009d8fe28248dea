"""A search of passages as it was asked for, and what it found in all shards together."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from services.retriever.filters.conditions import Condition
from services.retriever.lexical.search import WordAnswer
from services.retriever.search import SearchAnswer
from services.retriever.store.records import Passage, Position
from sirdar.errors import InvalidArgument


class Consistency(Enum):
    EVENTUAL = "eventual"
    SESSION = "session"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class PassageSearch:
    """`queries` is float32 of shape (n, dimensions); `shards` empty: all."""

    queries: NDArray[np.float32]
    candidates: int
    exact: bool
    documents_with_text: int | None
    shards: tuple[int, ...]
    consistency: Consistency
    seen: tuple[Position, ...]
    # The queries of the message that `queries` are of, and the words of each of its queries.
    vector_places: tuple[int, ...]
    words: tuple[str, ...]
    # Answer with ids and scores alone; no passage is read.
    ids_only: bool = False
    # Only passages of documents that meet it; None: all.
    condition: Condition | None = None


def check_seen(seen: Sequence[Position], committed: Sequence[int]) -> None:
    """`committed`: the last sequence of each shard. Raises InvalidArgument for a token, one an item
    of `seen`, whose write is beyond."""
    for at, position in enumerate(seen):
        if position.seq > committed[position.shard]:
            raise InvalidArgument.field(
                f"consistency_tokens[{at}]",
                "is of a write that the store does not have; where it was restored from a backup, "
                "write again, and read without the tokens of before",
                reason="BAD_CONSISTENCY_TOKEN",
            )


@dataclass(frozen=True, slots=True)
class CoveredAnswer:
    """An answer and the shards that it does not speak for.

    None: vectors, or words, were not asked for.
    """

    dense: SearchAnswer | None
    lexical: WordAnswer | None
    shards_asked: int
    missing_shards: tuple[int, ...]

    def ids_with_text(self) -> list[int]:
        return [key for key, passage in self.passages().items() if passage.text]

    @property
    def pending_writes(self) -> int:
        answers = (self.dense, self.lexical)
        return max((answer.pending_writes for answer in answers if answer), default=0)

    @property
    def applied_seqs(self) -> list[int]:
        """One a shard that answered: the last write that both show."""
        answers = [answer.applied_seqs for answer in (self.dense, self.lexical) if answer]
        return [min(seqs) for seqs in zip(*answers, strict=True)]

    def passages(self) -> dict[int, Passage]:
        """Of both, with text where one of them has it."""
        dense = self.dense.passages if self.dense else {}
        lexical = self.lexical.passages if self.lexical else {}
        return dense | {
            key: passage for key, passage in lexical.items() if passage.text or key not in dense
        }
