"""Candidates of a search against what the documents may have been meanwhile."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.oracle import States, Violation, shown
from tests.chaos.model.state import State

# Of float32 sums over 16 components of float16 vectors, in another order.
_TOLERANCE = 1e-4
_Place = tuple[str, int]


class Passages:
    """Passages that a search may find, by what their documents may have been.

    `certain`: those of documents that were in one state all along. `uncertain`: how many
    others there may have been. What was replaced between the search and the reading of its
    text leaves its place empty: so many candidates may be too few.
    """

    def __init__(self, documents: Mapping[str, States], similarity: int) -> None:
        self.documents = documents
        self.similarity = similarity
        self._uncertain: list[State] = []
        self.certain: list[_Place] = []
        self.certain_states: list[State] = []
        vectors: list[NDArray[np.float32]] = [np.empty((0, content.DIMENSIONS), np.float32)]
        for document, states in documents.items():
            if len(states) != 1:
                self._uncertain.extend(states)
                continue
            (state,) = states
            if state.content is not None:
                self.certain.extend((document, index) for index in range(state.passages))
                self.certain_states.extend([state] * state.passages)
                vectors.append(content.stored_vectors(state.content, similarity))
        self._vectors = np.concatenate(vectors)

    @property
    def uncertain(self) -> int:
        return sum(state.passages for state in self._uncertain)

    def uncertain_with(self, words: set[str]) -> int:
        """Those that have one of the words."""
        return sum(
            bool(words & content.content(state.content).words(index))
            for state in self._uncertain
            if state.content is not None
            for index in range(state.passages)
        )

    def certain_scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._vectors @ query
        return scores

    def explain(self, where: str, passage: pb.CandidatePassage) -> State:
        """The state of its document that a passage is of. Raises Violation."""
        states = self.documents.get(passage.document_id, frozenset())
        for state in states:
            if state.live and state.version == passage.version and _shows(passage, state):
                return state
        raise Violation(f"{where}: {passage} is of none of {shown(states)}")


def check_dense(
    where: str,
    passages: Passages,
    query: NDArray[np.float32],
    result: pb.PassageCandidates,
    k: int,
    *,
    complete: bool,
) -> tuple[int, int]:
    """Each candidate is right; with `complete` none is missing that must be there. How many
    were found, of how many that are as good."""
    found = _placed(where, passages, result, [item.passage for item in result.dense])
    scores = [item.score for item in result.dense]
    _check_order(where, scores, k)
    for (_, index), state, score in zip(found, found.values(), scores, strict=True):
        assert state.content is not None
        vector = content.stored_vectors(state.content, passages.similarity)[index]
        if not np.isclose(score, vector @ query, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise Violation(f"{where}: scored {score}, but it is {vector @ query}")
    full = len(scores) == k or k <= len(scores) + passages.uncertain
    last = scores[-1] if scores else np.inf
    floor = last + _TOLERANCE * max(1.0, abs(last)) if full else -np.inf
    wanted = zip(passages.certain, passages.certain_scores(query).tolist(), strict=True)
    missing = [(place, score) for place, score in wanted if score > floor and place not in found]
    if complete and missing:
        raise Violation(
            f"{where}: {missing[:5]} are missing from {len(found)} of {k} candidates down to "
            f"{scores[-1:]}"
        )
    return len(found), len(found) + len(missing)


def check_lexical(
    where: str,
    passages: Passages,
    words: str,
    result: pb.PassageCandidates,
    k: int,
    *,
    complete: bool,
) -> None:
    """Each candidate has one of the words; with `complete` none is missing where there is room."""
    found = _placed(where, passages, result, [item.passage for item in result.lexical])
    _check_order(where, [item.score for item in result.lexical], k)
    asked = set(words.split())
    for (document, index), state in found.items():
        assert state.content is not None
        if not asked & content.content(state.content).words(index):
            raise Violation(f"{where}: {document}/{index} has none of {words!r}")
    if not complete or len(found) + passages.uncertain_with(asked) >= k:
        return
    for (document, index), state in zip(passages.certain, passages.certain_states, strict=True):
        assert state.content is not None
        has = asked & content.content(state.content).words(index)
        if has and (document, index) not in found:
            raise Violation(f"{where}: {document}/{index} with {has} is missing from {len(found)}")


def _placed(
    where: str, passages: Passages, result: pb.PassageCandidates, order: list[int]
) -> dict[_Place, State]:
    found: dict[_Place, State] = {}
    contents: dict[str, int | None] = {}
    for at in order:
        passage = result.passages[at]
        place = (passage.document_id, passage.index)
        if place in found:
            raise Violation(f"{where}: {place} is there twice")
        state = found[place] = passages.explain(where, passage)
        if contents.setdefault(passage.document_id, state.content) != state.content:
            raise Violation(f"{where}: {passage.document_id} is there in two contents")
    return found


def _check_order(where: str, scores: list[float], k: int) -> None:
    if len(scores) > k:
        raise Violation(f"{where}: {len(scores)} candidates, more than {k}")
    if any(first < second for first, second in pairwise(scores)):
        raise Violation(f"{where}: not best first: {scores}")


def _shows(passage: pb.CandidatePassage, state: State) -> bool:
    """Whether the passage is one of the state; text and what is beside it may be left out."""
    assert state.content is not None
    item = content.content(state.content)
    if passage.index >= len(item.passages):
        return False
    if (passage.span.start, passage.span.end) != item.spans[passage.index]:
        return False
    if not passage.text:
        return not passage.title and not passage.metadata
    return (passage.text, passage.title) == (
        item.passages[passage.index],
        item.title,
    ) and content.read_metadata(passage.metadata) == state.metadata
