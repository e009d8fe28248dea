"""The answer to a search."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sirdar.client.collection import EmbeddingSpace
from sirdar.client.documents import MetadataValue


class Consistency(Enum):
    """How fresh a search must be.

    `EVENTUAL`: whatever each shard has applied. `SESSION`: at least the writes
    of the tokens given. `STRONG`: at least all writes committed before it.
    """

    EVENTUAL = "eventual"
    SESSION = "session"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class Span:
    """Code points `start` to `end` of a text, half open."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Snippet:
    """A passage; `start` and `end` are code points in the document's text, half open.

    `highlights` are the sentences of `text` that matter to the query, the best
    first; empty unless the search asked for them.
    """

    text: str
    start: int
    end: int
    passage_index: int
    highlights: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class StageScore:
    """What a stage of the search made of a result: its `rank`, from 1, its `score`, and what
    that is made of, for people."""

    stage: str
    rank: int
    score: float
    detail: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One document, or one passage where these were asked for. `score` orders the results.

    `similarity` compares query and best passage, None where that was found by
    words only; `lexical_score` is its BM25, None where it was found by meaning
    only; `rerank_score` the cross-encoder's logit, None where it was not asked;
    `retriever_rank` the place before reranking, from 1. `collection` is set where
    several were asked, `group` is the value that it is grouped by, `explanation`
    what each stage made of it, where that was asked.
    """

    document_id: str
    score: float
    similarity: float | None
    title: str
    metadata: Mapping[str, MetadataValue]
    version: int
    snippet: Snippet
    matched_passages: int
    rerank_score: float | None = None
    retriever_rank: int = 0
    lexical_score: float | None = None
    collection: str = ""
    group: MetadataValue | None = None
    explanation: tuple[StageScore, ...] = ()


@dataclass(frozen=True, slots=True)
class StageTiming:
    """How long `stage` took: `embed`, `retrieve`, `rerank`, `highlight` or `total`."""

    stage: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the collection the answer speaks for."""

    shards_asked: int
    shards_answered: int
    missing_shards: tuple[int, ...]
    pending_writes: int

    @property
    def complete(self) -> bool:
        return self.shards_answered == self.shards_asked


@dataclass(frozen=True, slots=True)
class Degradation:
    """Why the answer is less than was asked for: a word for programs, a sentence for people."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class CollectionCoverage:
    """What one of several collections gave to an answer."""

    collection: str
    space: EmbeddingSpace
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class CacheOutcome:
    """Whether the answer was kept: `bypassed`, `miss`, `exact_hit`, `semantic_hit` with the cosine
    of the two queries as `similarity`, or `semantic_off`; see the contract."""

    status: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResults:
    """The results, best first, and what is known about the answer; iterates over the results.

    `pool` is how many there are to page over; `collections` has one each where
    several were asked.
    """

    results: tuple[SearchResult, ...]
    timings: tuple[StageTiming, ...]
    space: EmbeddingSpace
    coverage: Coverage
    degraded: tuple[Degradation, ...]
    pool: int = 0
    collections: tuple[CollectionCoverage, ...] = ()
    cache: CacheOutcome | None = None

    def __iter__(self) -> Iterator[SearchResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)
