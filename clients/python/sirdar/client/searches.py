"""Many searches at once, and pairs of texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sirdar.client.options import SearchOptions
from sirdar.client.results import SearchResults
from sirdar.errors import SirdarError


@dataclass(frozen=True, slots=True)
class Search:
    """One of many searches; `options` are those of `search`.

    In a stream, `progressive` gives the retriever's order first and the
    reranked one when it is there, and `timeout_seconds` is the search's own.
    """

    collection: str | Sequence[str]
    query: str
    options: SearchOptions = field(default_factory=SearchOptions)
    progressive: bool = False
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What became of a search: its place among those given, and `results` or `error`.

    `preliminary`: the same results follow in a better order.
    """

    index: int
    results: SearchResults | None = None
    error: SirdarError | None = None
    preliminary: bool = False


class SimilarityMethod(StrEnum):
    """`embeddings`: the cosine of the texts' embeddings, -1 to 1. `cross_encoder`: the
    reranker's score of the second text as an answer to the first."""

    EMBEDDINGS = "embeddings"
    CROSS_ENCODER = "cross_encoder"


@dataclass(frozen=True, slots=True)
class SimilarityOutcome:
    """How much a pair means the same, or why that is not known."""

    similarity: float | None = None
    error: SirdarError | None = None
