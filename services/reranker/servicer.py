"""The reranker over gRPC: checks, calls, translates."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.inference.batcher import Priority, Work
from services.reranker.reranking import (
    Dropped,
    PassageOutcome,
    PassageScore,
    Query,
    Reranker,
    best_first,
    check_top_n,
)
from services.reranker.streams import GroupedAnswers
from services.reranker.top_passages import TopPassages
from services.runtime.deadline import deadline
from services.runtime.drain import Drain
from services.runtime.interceptors import caller
from sirdar.errors import InvalidArgument, SirdarError, to_status
from sirdar.v1 import common_pb2, reranker_pb2, reranker_pb2_grpc

# A larger call does not go in front of others' unless it says so.
_INTERACTIVE_PASSAGES = 64
_PRIORITIES = {
    common_pb2.PRIORITY_UNSPECIFIED: None,
    common_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    common_pb2.PRIORITY_BULK: Priority.BULK,
}
# Of work that may be partial the batcher starts what should be done by the deadline. Kept back
# for the answer to travel, 10 ms, and for a batch, up to 100 ms by the forecast, that takes half
# as long again. A caller who gives less time than 300 ms keeps four fifths of it.
_RESERVE_SECONDS = 0.06
_RESERVE_SHARE = 0.2
# Another replica, or this one restarted, is there about then.
_RETRY_DELAY = timedelta(milliseconds=200)

Context = Any


@dataclass(frozen=True, slots=True)
class _StreamPassage:
    """A passage by its place among those of its stream."""

    place: int
    id: str
    text: str


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
        if request.options.HasField("top_n"):
            raise InvalidArgument.field("options.top_n", "is for streams; set the request's top_n")
        top_n = check_top_n(request.top_n, "top_n") if request.HasField("top_n") else None
        texts = [passage.text for passage in request.passages]
        small = len(texts) <= _INTERACTIVE_PASSAGES
        work = _work(request.options, Priority.INTERACTIVE if small else Priority.BULK)
        outcomes = await self._reranker.score_passages(query, texts, work)
        dropped = sum(isinstance(outcome, Dropped) for outcome in outcomes)
        response = reranker_pb2.RerankPassagesResponse(model=self._model, dropped=dropped)
        for place in best_first(outcomes, top_n):
            response.scores.append(_score(request.passages[place].id, outcomes[place]))
        return response

    async def StreamRerankPassages(
        self, request_iterator: Any, context: Context
    ) -> AsyncIterator[reranker_pb2.StreamRerankPassagesResponse]:
        requests = self._drain.requests(request_iterator)
        first = await anext(requests, None)
        if first is not None:
            async for response in self._scores_of_stream(first, requests):
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
            state=common_pb2.MODEL_STATE_SERVING,
            parity=common_pb2.ParityCheck(
                min_cosine=model.parity.min_cosine,
                required_cosine=model.parity.required_cosine,
                texts=model.parity.texts,
            ),
        )
        return reranker_pb2.RerankerServiceListModelsResponse(models=[info])

    async def _scores_of_stream(
        self,
        first: reranker_pb2.StreamRerankPassagesRequest,
        requests: AsyncIterator[reranker_pb2.StreamRerankPassagesRequest],
    ) -> AsyncIterator[reranker_pb2.StreamRerankPassagesResponse]:
        """Scores as they are there, then the ranking where it is asked for."""
        if not first.HasField("options"):
            raise InvalidArgument.field("options", "must come first, before the passages")
        query = self._query(first.options)
        best = self._best(first.options)
        work = _work(first.options, Priority.BULK)

        async def answer(
            group: Sequence[_StreamPassage],
        ) -> list[tuple[_StreamPassage, PassageOutcome]]:
            texts = [passage.text for passage in group]
            outcomes = await self._reranker.score_group(query, texts, work)
            return list(zip(group, outcomes, strict=True))

        grouped = GroupedAnswers(answer, self._stream_passages)
        async with aclosing(grouped.of(_passages(requests))) as answers:
            async for passage, outcome in answers:
                if best is not None and isinstance(outcome, PassageScore):
                    best.add(passage.id, outcome.logit, passage.place)
                score = _score(passage.id, outcome)
                yield reranker_pb2.StreamRerankPassagesResponse(score=score)
        # Of a stream that was broken off the caller has the scores, and more of them elsewhere.
        if best is not None and not self._drain.draining:
            ranking = reranker_pb2.RerankRanking(ids=best.ids())
            yield reranker_pb2.StreamRerankPassagesResponse(ranking=ranking)

    def _query(self, options: reranker_pb2.RerankOptions) -> Query:
        self._reranker.check_model(options.model.name, options.model.revision)
        return self._reranker.query(options.query, raw_scores=options.raw_scores)

    def _best(self, options: reranker_pb2.RerankOptions) -> TopPassages | None:
        if not options.HasField("top_n"):
            return None
        limit = self._reranker.limits.passages
        return TopPassages(check_top_n(options.top_n, "options.top_n", limit))


async def _passages(
    requests: AsyncIterator[reranker_pb2.StreamRerankPassagesRequest],
) -> AsyncIterator[_StreamPassage]:
    place = 0
    async for request in requests:
        if not request.HasField("passage"):
            raise InvalidArgument.field("passage", "must be set after the first message")
        yield _StreamPassage(place, request.passage.id, request.passage.text)
        place += 1


def _work(options: reranker_pb2.RerankOptions, by_size: Priority) -> Work:
    """Raises InvalidArgument for a priority that is unknown here."""
    if options.priority not in _PRIORITIES:
        raise InvalidArgument.field("options.priority", "is unknown; use INTERACTIVE or BULK")
    partial = not options.require_all
    at = deadline()
    if partial and at is not None:
        at -= min(_RESERVE_SECONDS, _RESERVE_SHARE * max(0.0, at - time.monotonic()))
    return Work(_PRIORITIES[options.priority] or by_size, caller(), at, partial)


def _score(identity: str, outcome: PassageOutcome) -> reranker_pb2.RerankScore:
    if isinstance(outcome, SirdarError):
        return reranker_pb2.RerankScore(id=identity, error=to_status(outcome))
    if isinstance(outcome, Dropped):
        return reranker_pb2.RerankScore(id=identity, dropped=reranker_pb2.RerankDropped())
    return reranker_pb2.RerankScore(id=identity, score=outcome.score, truncated=outcome.truncated)
