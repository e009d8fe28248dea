"""What several looks at shards found, while documents were written between a look and the read
of what it found."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from services.retriever.store.records import Passage
from services.retriever.view_search import Found


class Look(NamedTuple):
    """What was found and still there, with its passages."""

    found: list[Found]
    passages: dict[int, Passage]


def together(looks: Sequence[Look]) -> Look:
    """The last look, and of those before it the documents that it has not.

    A document that is written again at each look is gone from the last one as
    another is from the one before; each was there as it is answered at some
    time of the search.
    """
    *earlier, last = looks
    found, passages = last.found, dict(last.passages)
    for look in reversed(earlier):
        there = {passage.document_id for passage in passages.values()}
        missing = {
            key: passage
            for key, passage in look.passages.items()
            if passage.document_id not in there
        }
        if missing:
            passages |= missing
            pairs = zip(found, look.found, strict=True)
            found = [_with(mine, other, missing) for mine, other in pairs]
    return Look(found, passages)


def _with(found: Found, other: Found, wanted: Container[int]) -> Found:
    """With those of the passages of the other that are wanted, best first."""
    both = list(zip(found.scores, found.ids, strict=True))
    both.extend(pair for pair in zip(other.scores, other.ids, strict=True) if pair[1] in wanted)
    both.sort(key=lambda pair: -pair[0])
    return Found([score for score, _ in both], [passage_id for _, passage_id in both])
