"""The highlight stage: which sentences of the snippets matter to the query, by meaning."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from sentencex import segment

from gateway.backends import EmbeddedQuery, Embedder
from gateway.pipeline.answer import Result
from gateway.vectors import to_array

# The rules of a language differ in abbreviations only; where it is not known, English ones
# split too seldom rather than too often.
_LANGUAGE = "en"
# Beside the best sentence, one that is nearly as close to the query.
_MAX_SENTENCES = 2
_NEARLY = 0.85
# The splitter takes every space for one byte long, and panics in the midst of one that is not.
_SPACES = {code: " " for code in range(0x80, sys.maxunicode + 1) if chr(code).isspace()}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a found document's passage: a span of code points, without outer spaces."""

    document: int
    start: int
    end: int
    text: str


def sentences_of(document: int, text: str) -> Iterator[Sentence]:
    at = 0
    # Nothing is lost: the parts put together are the text.
    for part in _parts(text):
        bare = part.strip()
        if bare:
            start = at + len(part) - len(part.lstrip())
            end = start + len(bare)
            yield Sentence(document, start, end, text[start:end])
        at += len(part)


def _parts(text: str) -> list[str]:
    """As long as the parts of the text; one where it cannot be split."""
    try:
        parts: list[str] = segment(_LANGUAGE, text.translate(_SPACES))
    except BaseException as panic:
        # It is Rust's, and no Exception: nobody else would catch it.
        if type(panic).__name__ != "PanicException":
            raise
        return [text]
    return parts


async def highlight(
    embedder: Embedder,
    query: EmbeddedQuery,
    documents: Sequence[Result],
    *,
    max_sentences: int,
    limit_seconds: float,
) -> list[Result]:
    """The documents with their highlights: those that `max_sentences` reach, best first.

    One call to the embedder. Raises what it raises.
    """
    # As many as are taken are looked for: splitting takes 65 microseconds for 1,000 characters.
    of_all = (sentences_of(place, one.passage.text) for place, one in enumerate(documents))
    sentences = list(islice(chain.from_iterable(of_all), max_sentences))
    if not sentences:
        return list(documents)
    vectors = await embedder.embed_sentences(
        [sentence.text for sentence in sentences], query.space, limit_seconds
    )
    wanted = to_array(query.vector)
    scored: dict[int, list[tuple[float, Sentence]]] = {}
    for sentence, vector in zip(sentences, vectors, strict=True):
        if vector is not None:
            similarity = float(wanted @ to_array(vector))
            scored.setdefault(sentence.document, []).append((similarity, sentence))
    return [
        replace(document, highlights=_best(scored.get(place, [])))
        for place, document in enumerate(documents)
    ]


def _best(scored: list[tuple[float, Sentence]]) -> tuple[tuple[int, int], ...]:
    """The spans of the best sentence and of one that is nearly as good."""
    ranked = sorted(scored, key=lambda pair: -pair[0])[:_MAX_SENTENCES]
    best = ranked[0][0] if ranked else 0.0
    # All may be on the other side of the query: the best is the best all the same.
    least = best - (1 - _NEARLY) * abs(best)
    return tuple((one.start, one.end) for similarity, one in ranked if similarity >= least)
