"""What the model of the chaos test lets pass, and what it does not."""

import pytest

from sirdar.v1 import collection_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.candidates import Passages, check_lexical
from tests.chaos.model.oracle import Violation
from tests.chaos.model.state import State

WORD = "gormdul"


def places(number: int) -> list[int]:
    """Which passages of a content have the word."""
    passages = content.content(number).passages
    return [at for at in range(len(passages)) if WORD in content.content(number).words(at)]


NUMBERS = range(content.CONTENTS)
WITH = next(number for number in NUMBERS if len(places(number)) == 1)
WITHOUT = [number for number in NUMBERS if not places(number)][:2]


def candidates(documents: list[str]) -> pb.PassageCandidates:
    (index,) = places(WITH)
    start, end = content.content(WITH).spans[index]
    result = pb.PassageCandidates()
    for at, document in enumerate(documents):
        result.lexical.add(passage=at, score=1.0)
        passage = result.passages.add(document_id=document, index=index, version=1)
        passage.span.start, passage.span.end = start, end
    return result


@pytest.mark.parametrize(
    ("replaced", "right"),
    [((WITH, WITHOUT[0]), True), ((WITHOUT[0], WITHOUT[1]), False), ((), False)],
)
def test_a_place_is_empty_only_where_what_had_the_word_was_replaced(
    replaced: tuple[int, ...], *, right: bool
) -> None:
    documents = {f"d{at}": frozenset({State(1, WITH)}) for at in range(10)}
    if replaced:
        documents["other"] = frozenset(State(1 + at, number) for at, number in enumerate(replaced))
    passages = Passages(documents, collection_pb2.SIMILARITY_COSINE)
    nine = candidates([f"d{at}" for at in range(9)])
    if right:
        check_lexical("here", passages, WORD, nine, 10, complete=True)
        return
    with pytest.raises(Violation, match="d9"):
        check_lexical("here", passages, WORD, nine, 10, complete=True)
