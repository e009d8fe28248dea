"""The answer to a search, as it grows."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.pipeline.query import ReturnedFields
from sirdar.v1 import common_pb2, document_pb2, query_pb2, retriever_pb2

StageName: TypeAlias = common_pb2.Stage.ValueType


@dataclass(frozen=True, slots=True)
class Result:
    """A passage, or a document by its best passage; that stays as it travels.

    `score` orders the answer: of a hybrid search the fused one, else
    `similarity` or `lexical_score`, until it is reranked. `similarity` is None
    where the passage was found by words only, `lexical_score` where by meaning
    only, `rerank_score`, the cross-encoder's logit, where it was not reranked.
    `highlights` are spans of code points in the passage's text, the best
    sentence first.
    """

    passage: retriever_pb2.CandidatePassage
    score: float
    similarity: float | None
    lexical_score: float | None
    rerank_score: float | None
    matched_passages: int
    retriever_rank: int
    # Empty where one collection was asked.
    collection: str = ""
    group: document_pb2.MetadataValue | None = None
    explanation: Sequence[query_pb2.StageScore] = ()
    highlights: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class SearchAnswer:
    """`pool`: how many results there are to page over."""

    results: list[Result] = field(default_factory=list)
    pool: int = 0
    fields: ReturnedFields = field(default_factory=ReturnedFields)
    space: common_pb2.EmbeddingSpace = field(default_factory=common_pb2.EmbeddingSpace)
    coverage: common_pb2.Coverage = field(default_factory=common_pb2.Coverage)
    # One each where several were asked.
    collections: list[query_pb2.CollectionCoverage] = field(default_factory=list)
    degraded: list[common_pb2.Degradation] = field(default_factory=list)
    stage_seconds: dict[StageName, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: StageName) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + spent

    def degrade(self, reason: common_pb2.DegradedReason.ValueType, detail: str) -> None:
        self.degraded.append(common_pb2.Degradation(reason=reason, detail=detail))
