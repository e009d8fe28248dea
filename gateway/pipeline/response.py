"""The answer to a search, as it travels.

Fields are written one by one into the message that is sent: to make messages of their own for
them first, and copy these, takes more than twice as long.
"""

from gateway.pipeline.answer import Result, SearchAnswer
from gateway.pipeline.query import ReturnedFields
from sirdar.v1 import search_pb2


def search_response(answer: SearchAnswer) -> search_pb2.SearchResponse:
    response = search_pb2.SearchResponse(
        space=answer.space,
        coverage=answer.coverage,
        degraded=answer.degraded,
        pool=answer.pool,
        collections=answer.collections,
    )
    add = response.results.add
    for result in answer.results:
        _write(add(), result, answer.fields)
    for stage, seconds in answer.stage_seconds.items():
        timing = response.timings.add(stage=stage)
        timing.duration.FromNanoseconds(round(seconds * 1e9))
    return response


def _write(message: search_pb2.SearchResult, result: Result, fields: ReturnedFields) -> None:
    passage = result.passage
    message.document_id = passage.document_id
    message.version = passage.version
    if fields.title:
        message.title = passage.title
    snippet = message.snippet
    if fields.text:
        snippet.text = passage.text
    snippet.span.CopyFrom(passage.span)
    snippet.passage_index = passage.index
    for start, end in result.highlights:
        snippet.highlights.add(start=start, end=end)
    _write_scores(message, result)
    message.matched_passages = result.matched_passages
    message.retriever_rank = result.retriever_rank
    message.collection = result.collection
    if result.group is not None:
        message.group.CopyFrom(result.group)
    if result.explanation:
        message.explanation.stages.extend(result.explanation)
    if fields.metadata:
        for name, value in passage.metadata.items():
            if not fields.metadata_fields or name in fields.metadata_fields:
                message.metadata[name].CopyFrom(value)


def _write_scores(message: search_pb2.SearchResult, result: Result) -> None:
    """Those that are known."""
    message.score = result.score
    if result.similarity is not None:
        message.similarity = result.similarity
    if result.lexical_score is not None:
        message.lexical_score = result.lexical_score
    if result.rerank_score is not None:
        message.rerank_score = result.rerank_score
