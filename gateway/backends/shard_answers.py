"""One answer of several about different shards of a collection."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from sirdar.v1 import common_pb2, retriever_pb2

Response = retriever_pb2.SearchPassagesResponse


def joined(
    request: retriever_pb2.SearchPassagesRequest,
    parts: Sequence[tuple[Sequence[int], Response]],
    unanswered: Iterable[int] = (),
) -> Response:
    """The best candidates of all parts, each with the shards that it was asked for; equal scores
    in the order of the parts. `unanswered`: shards that were asked for in vain."""
    responses = [response for _, response in parts]
    whole = Response(
        generation=responses[0].generation,
        coverage=_coverage(responses, unanswered),
        missing_lexical_shards=sorted(
            {shard for response in responses for shard in response.missing_lexical_shards}
        ),
        applied_seqs=_applied_seqs(parts),
    )
    for at in range(len(request.queries)):
        results = [response.results[at] for response in responses]
        into = whole.results.add()
        if request.ids_only:
            _join_ids([item.dense_ids for item in results], into.dense_ids, request.candidates)
            _join_ids([item.lexical_ids for item in results], into.lexical_ids, request.candidates)
        else:
            _join_passages(results, into, request.candidates)
    return whole


def completed(
    request: retriever_pb2.SearchPassagesRequest,
    found: Response,
    lacking: Sequence[int],
    more: Response,
) -> Response:
    """An answer for all shards, and another for those of them that it lacks."""
    every = range(found.coverage.shards_asked)
    without = Response()
    without.CopyFrom(found)
    left = set(found.coverage.missing_shards).difference(lacking)
    without.coverage.shards_asked -= len(lacking)
    del without.coverage.missing_shards[:]
    without.coverage.missing_shards.extend(sorted(left))
    there = [shard for shard in every if shard not in lacking]
    return joined(request, [(there, without), (lacking, more)])


def _coverage(responses: Sequence[Response], unanswered: Iterable[int]) -> common_pb2.Coverage:
    in_vain = set(unanswered)
    missing = in_vain.union(*(response.coverage.missing_shards for response in responses))
    return common_pb2.Coverage(
        shards_asked=len(in_vain) + sum(item.coverage.shards_asked for item in responses),
        shards_answered=sum(item.coverage.shards_answered for item in responses),
        missing_shards=sorted(missing),
        pending_writes=sum(item.coverage.pending_writes for item in responses),
    )


def _applied_seqs(parts: Sequence[tuple[Sequence[int], Response]]) -> list[int]:
    """By shard; none where one is older and did not say."""
    by_shard: dict[int, int] = {}
    for shards, response in parts:
        missing = set(response.coverage.missing_shards)
        answered = [shard for shard in sorted(shards) if shard not in missing]
        if len(answered) != len(response.applied_seqs):
            return []
        by_shard |= zip(answered, response.applied_seqs, strict=True)
    return [by_shard[shard] for shard in sorted(by_shard)]


def _join_passages(
    results: Sequence[retriever_pb2.PassageCandidates],
    into: retriever_pb2.PassageCandidates,
    candidates: int,
) -> None:
    places: dict[tuple[int, int], int] = {}

    def best(
        of: Callable[[retriever_pb2.PassageCandidates], Iterable[retriever_pb2.Candidate]],
    ) -> Iterable[tuple[float, int]]:
        every = chain.from_iterable(
            ((item.score, part, item.passage) for item in of(result))
            for part, result in enumerate(results)
        )
        for score, part, passage in sorted(every, key=lambda item: -item[0])[:candidates]:
            place = places.get((part, passage))
            if place is None:
                place = places[part, passage] = len(places)
                into.passages.add().CopyFrom(results[part].passages[passage])
            yield score, place

    for score, place in best(lambda result: result.dense):
        into.dense.add(passage=place, score=score)
    for score, place in best(lambda result: result.lexical):
        into.lexical.add(passage=place, score=score)


def _join_ids(
    lists: Sequence[retriever_pb2.PassageIds], into: retriever_pb2.PassageIds, candidates: int
) -> None:
    every = chain.from_iterable(zip(item.scores, item.passage_ids, strict=True) for item in lists)
    best = sorted(every, key=lambda item: -item[0])[:candidates]
    into.scores.extend(score for score, _ in best)
    into.passage_ids.extend(passage_id for _, passage_id in best)
