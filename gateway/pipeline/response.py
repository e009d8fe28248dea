"""The answer to a search, as it travels."""

from gateway.pipeline.answer import Result, SearchAnswer
from gateway.pipeline.query import ReturnedFields
from sirdar.v1 import common_pb2, query_pb2, search_pb2


def search_response(answer: SearchAnswer) -> search_pb2.SearchResponse:
    response = search_pb2.SearchResponse(
        results=[_search_result(result, answer.fields) for result in answer.results],
        space=answer.space,
        coverage=answer.coverage,
        degraded=answer.degraded,
        pool=answer.pool,
        collections=answer.collections,
    )
    for stage, seconds in answer.stage_seconds.items():
        timing = response.timings.add(stage=stage)
        timing.duration.FromNanoseconds(round(seconds * 1e9))
    return response


def _search_result(result: Result, fields: ReturnedFields) -> search_pb2.SearchResult:
    passage = result.passage
    message = search_pb2.SearchResult(
        document_id=passage.document_id,
        score=result.score,
        title=passage.title if fields.title else "",
        version=passage.version,
        snippet=search_pb2.Snippet(
            text=passage.text if fields.text else "",
            span=passage.span,
            passage_index=passage.index,
            highlights=[common_pb2.Span(start=start, end=end) for start, end in result.highlights],
        ),
        matched_passages=result.matched_passages,
        similarity=result.similarity,
        lexical_score=result.lexical_score,
        rerank_score=result.rerank_score,
        retriever_rank=result.retriever_rank,
        collection=result.collection,
        group=result.group,
    )
    if result.explanation:
        message.explanation.CopyFrom(query_pb2.Explanation(stages=result.explanation))
    if fields.metadata:
        for name, value in passage.metadata.items():
            if not fields.metadata_fields or name in fields.metadata_fields:
                message.metadata[name].CopyFrom(value)
    return message
