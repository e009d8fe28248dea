"""The sentences of a passage, and those of them that matter to a query."""

import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends import EmbeddedQuery, Embedder
from gateway.pipeline import highlights
from gateway.pipeline.answer import Result
from gateway.pipeline.highlights import highlight, sentences_of
from sirdar.v1 import common_pb2, retriever_pb2

SPACE = common_pb2.EmbeddingSpace(fingerprint="f1", dimensions=2)


def vector(x: float, y: float, *, half: bool = False) -> common_pb2.Vector:
    dtype = common_pb2.DTYPE_FLOAT16 if half else common_pb2.DTYPE_FLOAT32
    data = struct.pack("<2e" if half else "<2f", x, y)
    return common_pb2.Vector(data=data, dtype=dtype, dimensions=2)


class Sentences:
    """An embedder that knows the vectors of sentences; of others it has none."""

    def __init__(self, **vectors: common_pb2.Vector) -> None:
        self._vectors = vectors
        self.asked: list[str] = []

    async def embed_sentences(
        self, texts: list[str], space: common_pb2.EmbeddingSpace, limit_seconds: float
    ) -> list[common_pb2.Vector | None]:
        self.asked += texts
        return [self._vectors.get(text.rstrip(".")) for text in texts]


async def marked(embedder: Sentences, *texts: str, most: int = 64) -> list[list[str]]:
    query = EmbeddedQuery(vector(1.0, 0.0), SPACE)
    results = [
        Result(retriever_pb2.CandidatePassage(text=text), 1.0, None, None, None, 1, 1)
        for text in texts
    ]
    found = await highlight(
        cast(Embedder, embedder), query, results, max_sentences=most, limit_seconds=1.0
    )
    return [[one.passage.text[start:end] for start, end in one.highlights] for one in found]


def split(text: str) -> list[str]:
    return [text[one.start : one.end] for one in sentences_of(0, text)]


# What a splitter stumbles over, and anything at all.
_TEXTS = (
    st.text(alphabet="aBé中\U0001f600 .!?\n\t\u00a0\u2028\u3000\x85\u0301“”'()", max_size=60)
    | st.text()
)


@given(_TEXTS)
def test_sentences_are_where_they_say_and_nothing_else_is_left(text: str) -> None:
    at = 0
    for one in sentences_of(3, text):
        assert one.document == 3
        assert one.text == text[one.start : one.end]
        assert one.text == one.text.strip() != ""
        assert not text[at : one.start].strip()
        at = one.end
    assert not text[at:].strip()


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\u3000", "\x85", "\u202f"])
def test_spaces_of_several_bytes_are_spaces(space: str) -> None:
    assert split(f"By Victor B{space}. Left alone. Right.")[-1] == "Right."


def test_a_text_that_the_splitter_cannot_take_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(highlights, "_SPACES", {})
    assert split("B\u00a0.") == ["B\u00a0."]


async def test_the_best_is_marked_and_what_is_nearly_as_good() -> None:
    known = Sentences(
        One=vector(0.9, 0.1), Two=vector(0.8, 0.1), Three=vector(0.7, 0.1), Four=vector(0.1, 0.9)
    )
    assert await marked(known, "Four. Three. Two. One.", "Four. Three.", "Unknown.", "") == [
        ["One.", "Two."],
        ["Three."],
        [],
        [],
    ]


async def test_where_all_are_unlike_the_query_the_best_is_marked_all_the_same() -> None:
    known = Sentences(One=vector(-0.2, 0.1), Two=vector(-0.21, 0.1), Three=vector(-0.9, 0.1))
    assert await marked(known, "Three. Two. One.") == [["One.", "Two."]]
    assert await marked(known, "Three. One.") == [["One."]]


async def test_vectors_of_half_precision_are_read_as_such() -> None:
    known = Sentences(One=vector(0.9, 0.1, half=True), Two=vector(0.1, 0.9, half=True))
    assert await marked(known, "Two. One.") == [["One."]]


async def test_only_so_many_sentences_are_looked_for() -> None:
    known = Sentences(One=vector(0.9, 0.1))
    assert await marked(known, "One. Two. Three.", "One.", most=2) == [["One."], []]
    assert known.asked == ["One.", "Two."]
