"""The page of an answer: what of the last order is shown, and what is known of it."""

from collections.abc import Mapping, Sequence

from gateway.pipeline.answer import Result
from gateway.pipeline.graph_run import GraphRun
from gateway.pipeline.ranking import Ranking
from sirdar.v1 import query_pb2


def pool_of(ranking: Ranking) -> int:
    """How many results, or groups, there are to page over."""
    return len(ranking) if ranking.groups is None else len(ranking.groups)


def places_of(ranking: Ranking, offset: int, wanted: int) -> list[int]:
    """The places in the pool of what is on a page."""
    if ranking.groups is None:
        return list(ranking.scores)[offset:wanted]
    return [place for one in ranking.groups[offset:wanted] for place in one.members]


def results_at(
    run: GraphRun,
    places: Sequence[int],
    explanations: Mapping[int, Sequence[query_pb2.StageScore]],
) -> list[Result]:
    """What is known of the results at these places."""
    ranking = run.answer
    pool = run.pool
    groups = {place: one.value for one in ranking.groups or () for place in one.members}
    ranks = {place: rank for rank, place in enumerate(ranking.order_before, 1)}
    matched = ranking.matched or {}
    return [
        Result(
            passage=pool.passages[place],
            score=ranking.scores[place],
            similarity=ranking.similarities.get(place),
            lexical_score=ranking.lexical_scores.get(place),
            rerank_score=ranking.rerank_scores.get(place),
            matched_passages=matched.get(place, 1),
            retriever_rank=ranks.get(place, 0),
            collection=pool.collections[place] if pool.collections else "",
            group=groups.get(place),
            explanation=explanations.get(place, ()),
        )
        for place in places
    ]
