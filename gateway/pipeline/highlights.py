"""The highlight stage: which sentences of the snippets matter to the query, by meaning."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import mul

from sentencex import segment

from gateway.backends import EmbeddedQuery, Embedder
from gateway.pipeline.answer import Result
from sirdar.v1 import common_pb2

# The rules of a language differ in abbreviations only; where it is not known, English ones
# split too seldom rather than too often.
_LANGUAGE = "en"
# Beside the best sentence, one that is nearly as close to the query.
_MAX_SENTENCES = 2
_NEARLY = 0.85


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a found document's passage: a span of code points, without outer spaces."""

    document: int
    start: int
    end: int
    text: str


def sentences_of(document: int, text: str) -> list[Sentence]:
    found: list[Sentence] = []
    at = 0
    # segment() loses nothing: its parts put together are the text.
    for part in segment(_LANGUAGE, text):
        bare = part.strip()
        if bare:
            start = at + len(part) - len(part.lstrip())
            found.append(Sentence(document, start, start + len(bare), bare))
        at += len(part)
    return found


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
    sentences = [
        sentence
        for place, document in enumerate(documents)
        for sentence in sentences_of(place, document.passage.text)
    ][:max_sentences]
    if not sentences:
        return list(documents)
    vectors = await embedder.embed_sentences(
        [sentence.text for sentence in sentences], query.space, limit_seconds
    )
    wanted = _floats(query.vector)
    scored: dict[int, list[tuple[float, Sentence]]] = {}
    for sentence, vector in zip(sentences, vectors, strict=True):
        if vector is not None:
            similarity = sum(map(mul, wanted, _floats(vector)))
            scored.setdefault(sentence.document, []).append((similarity, sentence))
    return [
        replace(document, highlights=_best(scored.get(place, [])))
        for place, document in enumerate(documents)
    ]


def _best(scored: list[tuple[float, Sentence]]) -> tuple[tuple[int, int], ...]:
    """The spans of the best sentence and of one that is nearly as good."""
    ranked = sorted(scored, key=lambda pair: -pair[0])[:_MAX_SENTENCES]
    return tuple(
        (sentence.start, sentence.end)
        for similarity, sentence in ranked
        if similarity >= _NEARLY * ranked[0][0]
    )


def _floats(vector: common_pb2.Vector) -> tuple[float, ...]:
    """The components; both tiers answer float32 unless asked otherwise."""
    return struct.unpack(f"<{vector.dimensions}f", vector.data)
