"""What may be true of each document, by what was asked for and what was acknowledged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sirdar.client import Document, SearchResults, StoredDocument
from tests.chaos.cluster.contents import TEXTS

# The same text in another batch has another vector, in bf16, and it is stored as float16.
_TOLERANCE = 0.02
_ATTEMPT = "attempt"


class WrongAnswer(AssertionError):
    """An answer that cannot be true."""


@dataclass(slots=True)
class History:
    """Attempts at a document in the order in which they were sent: the text that it is to have,
    or None where it is to be gone. What was not acknowledged may or may not have been done; what
    was, is not undone by what was sent before it."""

    attempts: list[int | None] = field(default_factory=lambda: [None])
    acknowledged: int = 0
    token: str = ""

    def possible(self, floor: int) -> Sequence[int]:
        """The attempts that may be what is seen by who must see `floor`."""
        return range(floor, len(self.attempts))


class Histories:
    """Of documents that are named by numbers; each has one writer at a time."""

    def __init__(self, documents: int, similarities: NDArray[np.float32]) -> None:
        self._histories = [History() for _ in range(documents)]
        self._similarities = similarities

    def __len__(self) -> int:
        return len(self._histories)

    def written(self, number: int, text: int) -> tuple[Document, int]:
        """The document that is about to be sent, and which attempt at it that is."""
        attempts = self._histories[number].attempts
        attempts.append(text)
        attempt = len(attempts) - 1
        return Document(name(number), TEXTS[text], metadata={_ATTEMPT: attempt}), attempt

    def deleted(self, number: int) -> int:
        """Which attempt at it the deletion is that is about to be sent."""
        attempts = self._histories[number].attempts
        attempts.append(None)
        return len(attempts) - 1

    def acknowledge(self, number: int, attempt: int, token: str) -> None:
        history = self._histories[number]
        history.acknowledged = max(history.acknowledged, attempt)
        history.token = token

    def floors(self) -> list[int]:
        """The attempts that must be seen by who sees all that is acknowledged by now."""
        return [item.acknowledged for item in self._histories]

    def token(self, number: int) -> str:
        """Of its last acknowledged write; empty: none was."""
        return self._histories[number].token

    @property
    def acknowledged(self) -> int:
        """How many attempts are, at least."""
        return sum(item.acknowledged > 0 for item in self._histories)

    @property
    def attempts(self) -> int:
        return sum(len(item.attempts) - 1 for item in self._histories)

    def check_found(
        self, found: SearchResults, query: int, floors: Sequence[int], top_k: int, *, exact: bool
    ) -> None:
        """That an answer was true at some time since the floors were taken. Raises WrongAnswer.

        With `exact` it must also be in the order of the similarities, and have all that are
        among the best.
        """
        seen: dict[int, float] = {}
        for result in found:
            number = self._number(result.document_id)
            if number in seen:
                raise WrongAnswer(f"{result.document_id} is there twice")
            text = self._text(number, result.metadata.get(_ATTEMPT), floors[number])
            if result.snippet.text != TEXTS[text]:
                raise WrongAnswer(f"{result.document_id} says {result.snippet.text!r}")
            seen[number] = result.score
            expected = self._similarities[query, text]
            if result.similarity is not None and abs(result.similarity - expected) > _TOLERANCE:
                raise WrongAnswer(
                    f"{result.document_id} is {result.similarity} near, not {expected}"
                )
        if any(first < second for first, second in pairwise(seen.values())):
            raise WrongAnswer(f"not best first: {seen}")
        if exact and found.coverage.complete and not found.degraded:
            self._check_none_missing(seen, query, floors, top_k)

    def _check_none_missing(
        self, seen: dict[int, float], query: int, floors: Sequence[int], top_k: int
    ) -> None:
        worst = min(seen.values()) + _TOLERANCE if len(seen) == top_k else -np.inf
        for number, history in enumerate(self._histories):
            possible = history.possible(floors[number])
            text = history.attempts[possible[0]]
            if number in seen or text is None or len(possible) > 1:
                continue
            if self._similarities[query, text] > worst:
                raise WrongAnswer(
                    f"{name(number)} is missing, attempt {possible[0]} of it, with "
                    f"{self._similarities[query, text]} where the worst has {worst}"
                )

    def lost(self, stored: Sequence[StoredDocument]) -> list[str]:
        """What of all that is acknowledged is not so, while nobody writes."""
        shown = {self._number(item.document.id): item.document for item in stored}
        faults: list[str] = []
        for number, history in enumerate(self._histories):
            document = shown.get(number)
            possible = history.possible(history.acknowledged)
            if document is None:
                if all(history.attempts[attempt] is not None for attempt in possible):
                    faults.append(f"{name(number)} is gone, attempts {list(possible)}")
                continue
            try:
                text = self._text(number, document.metadata.get(_ATTEMPT), possible[0])
            except WrongAnswer as fault:
                faults.append(str(fault))
                continue
            if document.text != TEXTS[text]:
                faults.append(f"{name(number)} says {document.text!r}")
        return faults

    def _text(self, number: int, attempt: object, floor: int) -> int:
        """What the document says after an attempt that may be seen. Raises WrongAnswer."""
        history = self._histories[number]
        text = (
            history.attempts[attempt]
            if isinstance(attempt, int) and attempt in history.possible(floor)
            else None
        )
        if text is None:
            raise WrongAnswer(
                f"{name(number)} shows attempt {attempt}, after {floor} of {history.attempts}"
            )
        return text

    def _number(self, document: str) -> int:
        try:
            return int(document.removeprefix("d"))
        except ValueError:
            raise WrongAnswer(f"nobody wrote {document}") from None


def name(number: int) -> str:
    return f"d{number}"
