"""Cutting: the best results that meet a threshold."""

from itertools import islice

from gateway.pipeline.grouping import with_groups
from gateway.pipeline.ranking import FoundGroup, Ranking
from gateway.pipeline.stages import Cut, Threshold


def cut(ranking: Ranking, stage: Cut) -> Ranking:
    """At most `limit` results, or groups where they are grouped.

    Where nothing was reranked, a threshold on its score is not applied: the
    answer says that it was skipped.
    """
    threshold = stage.threshold
    if threshold is None:
        kept = set(ranking.scores)
    else:
        kept = {place for place in ranking.scores if _meets(ranking, place, threshold)}
    if ranking.groups is not None:
        groups = [
            FoundGroup(one.value, members)
            for one in ranking.groups
            if (members := tuple(place for place in one.members if place in kept))
        ]
        return with_groups(ranking, tuple(groups[: stage.limit]))
    best = ((place, score) for place, score in ranking.scores.items() if place in kept)
    return ranking.reordered(dict(islice(best, stage.limit)))


def _meets(ranking: Ranking, place: int, threshold: Threshold) -> bool:
    wanted = [
        (threshold.score, ranking.scores),
        (threshold.similarity, ranking.similarities),
        (threshold.lexical_score, ranking.lexical_scores),
    ]
    if ranking.rerank_scores:
        wanted.append((threshold.rerank_score, ranking.rerank_scores))
    return all(
        least is None or ((score := scores.get(place)) is not None and score >= least)
        for least, scores in wanted
    )
