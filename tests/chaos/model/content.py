"""What documents say and queries ask: pure functions of numbers."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from sirdar.v1 import collection_pb2, common_pb2
from sirdar.v1.document_pb2 import MetadataValue, StringList

DIMENSIONS = 16
FINGERPRINT = "print"
# Few enough that documents share contents, so that equal scores meet.
CONTENTS = 3000
WORDS = tuple(
    first + second
    for first in ("bram", "clov", "drun", "fesk", "gorm", "hilt", "jask", "kelp", "lumb", "morn")
    for second in ("ax", "bit", "cog", "dul", "fyn", "gat", "hob", "jud", "kiv", "lom")
)
# Characters of one to four bytes, so that spans count code points.
_SPICE = ("", "", "", " é", " 漢", " 🙂")
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, in nanoseconds since the epoch."""

    ns: int


Value = str | tuple[str, ...] | int | float | bool | Moment
Metadata = tuple[tuple[str, Value], ...]
"""Fields by name, in their order."""


@dataclass(frozen=True, slots=True)
class Content:
    """`vectors` is float32 of shape (len(passages), DIMENSIONS), as the writer has them."""

    title: str
    text: str
    passages: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    vectors: NDArray[np.float32]
    content_hash: bytes

    def words(self, index: int) -> frozenset[str]:
        """By which a passage is found: its own and its title's."""
        return frozenset(f"{self.title} {self.passages[index]}".split())


@lru_cache(maxsize=2 * CONTENTS)
def content(seed: int) -> Content:
    chosen = random.Random(seed)
    passages = []
    for _ in range(chosen.choice((1, 1, 2, 3, 5))):
        words = chosen.choices(WORDS, k=chosen.randint(2, 6))
        passages.append(" ".join(words) + chosen.choice(_SPICE))
    spans, at = [], 0
    for passage in passages:
        spans.append((at, at + len(passage)))
        at += len(passage) + 1
    return Content(
        title=chosen.choice(WORDS),
        text=" ".join(passages),
        passages=tuple(passages),
        spans=tuple(spans),
        vectors=_vectors(seed, len(passages)),
        content_hash=f"content {seed}".encode(),
    )


@lru_cache(maxsize=4 * CONTENTS)
def stored_vectors(seed: int, similarity: int) -> NDArray[np.float32]:
    """The vectors of a content as searches compare them: rounded to float16."""
    vectors = content(seed).vectors
    if similarity == collection_pb2.SIMILARITY_COSINE:
        vectors = _unit(vectors)
    rounded: NDArray[np.float32] = vectors.astype(np.float16).astype(np.float32)
    return rounded


def query_vector(seed: int, similarity: int) -> NDArray[np.float32]:
    vectors = _vectors(10**9 + seed, 1)
    if similarity == collection_pb2.SIMILARITY_COSINE:
        vectors = _unit(vectors)
    vector: NDArray[np.float32] = vectors[0]
    return vector


def as_message(vector: NDArray[np.float32]) -> common_pb2.Vector:
    return common_pb2.Vector(
        data=vector.tobytes(), dtype=common_pb2.DTYPE_FLOAT32, dimensions=len(vector)
    )


def metadata(seed: int) -> Metadata:
    """Fields of every type; a number of documents has each."""
    chosen = random.Random(seed)
    fields: dict[str, Value] = {
        "flag": chosen.random() < 0.5,
        "kind": chosen.choice(WORDS[:8]),
        "moment": Moment(chosen.randint(0, 99) * _NANOS + chosen.choice((0, 1, 500_000_000))),
        "note": " ".join(chosen.choices(WORDS[:20], k=3)),
        "price": chosen.randint(0, 400) / 4,
        "rank": chosen.randint(-50, 50),
        "tags": tuple(sorted(set(chosen.choices(WORDS[:12], k=2)))),
        # Not in any schema.
        "unnamed": chosen.choice(WORDS),
    }
    return tuple((name, value) for name, value in fields.items() if chosen.random() < 0.7)


def value_message(value: Value) -> MetadataValue:
    if isinstance(value, bool):
        return MetadataValue(bool_value=value)
    if isinstance(value, int):
        return MetadataValue(int64_value=value)
    if isinstance(value, float):
        return MetadataValue(double_value=value)
    if isinstance(value, Moment):
        return MetadataValue(timestamp_value=timestamp(value.ns))
    if isinstance(value, tuple):
        return MetadataValue(string_list=StringList(values=value))
    return MetadataValue(string_value=value)


def metadata_message(fields: Metadata) -> dict[str, MetadataValue]:
    return {name: value_message(value) for name, value in fields}


def read_metadata(message: Mapping[str, MetadataValue]) -> Metadata:
    return tuple((name, _read_value(message[name])) for name in sorted(message))


def timestamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // _NANOS, nanos=ns % _NANOS)


def nanoseconds(time: Timestamp) -> int:
    return int(time.seconds * _NANOS + time.nanos)


def _read_value(message: MetadataValue) -> Value:
    kind = message.WhichOneof("kind")
    if kind == "timestamp_value":
        return Moment(nanoseconds(message.timestamp_value))
    if kind == "string_list":
        return tuple(message.string_list.values)
    value: Value = getattr(message, str(kind))
    return value


def _vectors(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return np.asarray((vectors / norms[:, None]).astype(np.float32))
