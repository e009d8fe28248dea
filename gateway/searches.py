"""Searches: from the request to the pipeline, and from its answer to the response."""

from gateway import validation as check
from gateway.documents import FoundDocument
from gateway.fusion import mode_of, plan_fusion
from gateway.rerank import check_rerank
from gateway.search import SearchAnswer, SearchPipeline, SearchQuery
from gateway.settings import GatewaySettings
from sirdar.v1 import common_pb2, search_pb2


class Searches:
    def __init__(self, settings: GatewaySettings, pipeline: SearchPipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline

    async def search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        """Raises the errors of SearchService.Search."""
        top_k = check.check_top_k(request)
        check_rerank(request.rerank, "rerank")
        answer = await self._pipeline.search(
            SearchQuery(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                text=check.check_query(request.query, self._settings),
                top_k=top_k,
                candidates=check.check_candidates(request, top_k),
                exact=request.exact,
                consistency=check.check_consistency(request),
                consistency_tokens=tuple(request.consistency_tokens),
                require_complete=request.require_complete,
                rerank=request.rerank,
                highlight=request.highlight,
                filter=request.filter if request.HasField("filter") else None,
                mode=mode_of(request.mode),
                fusion=plan_fusion(request.fusion, self._settings.fusion),
            )
        )
        return _search_response(answer)


def _search_response(answer: SearchAnswer) -> search_pb2.SearchResponse:
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
