"""The answer to a search, as it grows and as it travels."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gateway.pipeline.documents import FoundDocument
from sirdar.v1 import common_pb2, search_pb2

Stage: TypeAlias = common_pb2.Stage.ValueType


@dataclass(slots=True)
class SearchAnswer:
    """An answer that grows stage by stage."""

    documents: list[FoundDocument] = field(default_factory=list)
    space: common_pb2.EmbeddingSpace = field(default_factory=common_pb2.EmbeddingSpace)
    coverage: common_pb2.Coverage = field(default_factory=common_pb2.Coverage)
    degraded: list[common_pb2.Degradation] = field(default_factory=list)
    stage_seconds: dict[Stage, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] = time.perf_counter() - started

    def first(self, count: int) -> "SearchAnswer":
        """As it is now, with the best documents only."""
        return replace(
            self,
            documents=self.documents[:count],
            degraded=list(self.degraded),
            stage_seconds=dict(self.stage_seconds),
        )

    def degrade(self, reason: common_pb2.DegradedReason.ValueType, detail: str) -> None:
        self.degraded.append(common_pb2.Degradation(reason=reason, detail=detail))


def search_response(answer: SearchAnswer) -> search_pb2.SearchResponse:
    response = search_pb2.SearchResponse(
        results=[_search_result(document) for document in answer.documents],
        space=answer.space,
        coverage=answer.coverage,
        degraded=answer.degraded,
    )
    for stage, seconds in answer.stage_seconds.items():
        timing = response.timings.add(stage=stage)
        timing.duration.FromNanoseconds(round(seconds * 1e9))
    return response


def _search_result(document: FoundDocument) -> search_pb2.SearchResult:
    passage = document.passage
    return search_pb2.SearchResult(
        document_id=passage.document_id,
        score=document.score,
        title=passage.title,
        metadata=passage.metadata,
        version=passage.version,
        snippet=search_pb2.Snippet(
            text=passage.text,
            span=passage.span,
            passage_index=passage.index,
            highlights=[
                common_pb2.Span(start=start, end=end) for start, end in document.highlights
            ],
        ),
        matched_passages=document.matched_passages,
        similarity=document.similarity,
        lexical_score=document.lexical_score,
        rerank_score=document.rerank_score,
        retriever_rank=document.retriever_rank,
    )
