"""The reranker over gRPC: checks, calls, translates."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.inference.batcher import Priority
from services.reranker.reranking import PassageScore, Query, Reranker, best_first
from services.reranker.streams import answer_as_done
from services.runtime.deadline import deadline
from services.runtime.drain import Drain
from sirdar.errors import InvalidArgument, ResourceExhausted, SirdarError, to_status
from sirdar.v1 import common_pb2, reranker_pb2, reranker_pb2_grpc

# A call or stream does not go in front of others' with more passages than this.
_INTERACTIVE_PASSAGES = 64
# Another replica, or this one restarted, is there about then.
_RETRY_DELAY = timedelta(milliseconds=200)

Context = Any


class RerankerServicer(reranker_pb2_grpc.RerankerServiceServicer):
    """One model behind RerankerService."""

    def __init__(self, reranker: Reranker, drain: Drain, stream_passages: int) -> None:
        """`stream_passages`: how many passages of a stream are worked on at once."""
        self._reranker = reranker
        self._drain = drain
        self._stream_passages = stream_passages
        source = reranker.model.source
        self._model = common_pb2.ModelRef(name=source.name, revision=source.revision)

    async def RerankPassages(
        self, request: reranker_pb2.RerankPassagesRequest, context: Context
    ) -> reranker_pb2.RerankPassagesResponse:
        query = self._query(request.options)
        texts = [passage.text for passage in request.passages]
        top_n = request.top_n if request.HasField("top_n") else None
        best_first([], top_n)  # refused before it is paid for
        priority = _priority(len(texts))
        outcomes = await self._reranker.score_passages(query, texts, priority, deadline())
        response = reranker_pb2.RerankPassagesResponse(model=self._model)
        for place in best_first(outcomes, top_n):
            response.scores.append(_score(request.passages[place].id, outcomes[place]))
        return response

    async def StreamRerankPassages(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[reranker_pb2.StreamRerankPassagesResponse]:
        requests = self._drain.requests(request_iterator)
        first = await anext(requests, None)
        if first is not None:
            query = self._first(first)
            numbers = itertools.count(1)

            async def answer(
                request: reranker_pb2.StreamRerankPassagesRequest,
            ) -> reranker_pb2.StreamRerankPassagesResponse:
                score = await self._stream_score(query, request, next(numbers))
                return reranker_pb2.StreamRerankPassagesResponse(score=score)

            async for response in answer_as_done(requests, answer, self._stream_passages):
                yield response
        if self._drain.draining:
            delay = Duration()
            delay.FromTimedelta(_RETRY_DELAY)
            shutting_down = common_pb2.ShuttingDown(retry_delay=delay)
            yield reranker_pb2.StreamRerankPassagesResponse(shutting_down=shutting_down)

    async def ListModels(
        self, request: reranker_pb2.RerankerServiceListModelsRequest, context: Context
    ) -> reranker_pb2.RerankerServiceListModelsResponse:
        model = self._reranker.model
        info = common_pb2.ModelInfo(
            model=self._model,
            engine=model.engine.info.name,
            precision=model.engine.info.precision,
            device=model.engine.info.device,
            max_tokens=model.description.max_tokens,
            is_default=True,
        )
        return reranker_pb2.RerankerServiceListModelsResponse(models=[info])

    def _query(self, options: reranker_pb2.RerankOptions) -> Query:
        self._reranker.check_model(options.model.name, options.model.revision)
        return self._reranker.query(options.query, raw_scores=options.raw_scores)

    def _first(self, request: reranker_pb2.StreamRerankPassagesRequest) -> Query:
        if not request.HasField("options"):
            raise InvalidArgument.field("options", "must come first, before the passages")
        return self._query(request.options)

    async def _stream_score(
        self, query: Query, request: reranker_pb2.StreamRerankPassagesRequest, number: int
    ) -> reranker_pb2.RerankScore:
        """The score of the stream's passage of that number, from 1.

        A full queue refuses the passage, not the stream.
        """
        if not request.HasField("passage"):
            raise InvalidArgument.field("passage", "must be set after the first message")
        passage = request.passage
        priority = _priority(number)
        outcome: PassageScore | SirdarError
        try:
            outcome = await self._reranker.score_passage(query, passage.text, priority, deadline())
        except ResourceExhausted as error:
            outcome = error
        return _score(passage.id, outcome)


def _priority(passages: int) -> Priority:
    return Priority.INTERACTIVE if passages <= _INTERACTIVE_PASSAGES else Priority.BULK


def _score(identity: str, outcome: PassageScore | SirdarError) -> reranker_pb2.RerankScore:
    if isinstance(outcome, SirdarError):
        return reranker_pb2.RerankScore(id=identity, error=to_status(outcome))
    return reranker_pb2.RerankScore(id=identity, score=outcome.score, truncated=outcome.truncated)
