"""The texts that are embedded: pieces of Cranfield's abstracts and queries, always the same."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from benchmarks.cranfield import load_cranfield

_MIXED_TEXTS = 1024
# Words of a mixed text, log-normal: with all-MiniLM-L6-v2's tokenizer 72 tokens in the
# mean, half of the texts between 35 and 95.
_MEDIAN_WORDS = 47
_SIGMA = 0.8
_MOST_WORDS = 180
_LEAST_WORDS = 4
_SHORT_TEXTS = 512


@dataclass(frozen=True, slots=True)
class Texts:
    mixed: list[str]
    """1,024 of mixed length, 72 tokens in the mean."""
    short: list[str]
    """512 like queries, 10 to 20 tokens."""
    tiny: list[str]
    """225 of four words: for the cost of calls, not of the model."""


def load_texts() -> Texts:
    """Reads Cranfield; exits when it is not there."""
    data = load_cranfield()
    words = [word for document in data.documents for word in document.text.split()]
    queries = [query.split() for query in data.queries.values()]
    return Texts(_mixed(words), _short(queries, words), [" ".join(query[:4]) for query in queries])


def messages(texts: Sequence[str], size: int) -> list[list[str]]:
    """The texts in messages of `size`."""
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def repeated(texts: Sequence[str], count: int) -> list[str]:
    """`count` texts, from the start again where there are too few."""
    return list(islice(cycle(texts), count))


def _mixed(words: Sequence[str]) -> list[str]:
    draw = random.Random(1)
    lengths = (draw.lognormvariate(math.log(_MEDIAN_WORDS), _SIGMA) for _ in range(_MIXED_TEXTS))
    return list(
        _pieces(words, [min(_MOST_WORDS, max(_LEAST_WORDS, round(length))) for length in lengths])
    )


def _short(queries: Sequence[Sequence[str]], words: Sequence[str]) -> list[str]:
    """The queries cut to 7 to 13 words, and pieces of as many."""
    starts = [" ".join(query[: 7 + index % 7]) for index, query in enumerate(queries)]
    lengths = [7 + index % 7 for index in range(_SHORT_TEXTS - len(starts))]
    # From the far end, which the mixed texts do not reach.
    return [*starts, *_pieces(words[-sum(lengths) :], lengths)]


def _pieces(words: Sequence[str], lengths: Sequence[int]) -> Iterator[str]:
    start = 0
    for length in lengths:
        yield " ".join(words[start : start + length])
        start += length
