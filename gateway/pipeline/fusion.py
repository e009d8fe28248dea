"""Fusion: one order of passages from several, such as a query's dense and lexical candidates."""

import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache

from gateway.pipeline.fusion_plan import FusionMethod
from gateway.pipeline.ranking import Ranking
from gateway.pipeline.stages import Fuse, Unit

_score = operator.itemgetter(1)


def fuse(rankings: Sequence[Ranking], stage: Fuse) -> Ranking:
    """One order of passages from several, best first; equal scores as the rankings have them.

    The score is the weighted sum of what each ranking gives a passage, 0 where
    it is not in it. Reciprocal rank: Cormack, Clarke and Büttcher, Reciprocal
    rank fusion outperforms Condorcet and individual rank learning methods, 2009.
    """
    fused: dict[int, float] = {}
    known = fused.get
    for ranking, weight in zip(rankings, stage.weights, strict=True):
        shares = (
            _reciprocal_ranks(len(ranking), stage.rank_constant)
            if stage.method is FusionMethod.RECIPROCAL_RANK
            else _normalised(list(ranking.scores.values()))
        )
        for passage, share in zip(ranking.scores, shares, strict=True):
            fused[passage] = known(passage, 0.0) + weight * share
    return Ranking(
        Unit.PASSAGES,
        dict(sorted(fused.items(), key=_score, reverse=True)),
        similarities=_joined([ranking.similarities for ranking in rankings]),
        lexical_scores=_joined([ranking.lexical_scores for ranking in rankings]),
        rerank_scores=_joined([ranking.rerank_scores for ranking in rankings]),
        comparable=all(ranking.comparable for ranking in rankings),
    )


def _joined(scores: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    """What any of them knows; of two opinions the higher."""
    known = [one for one in scores if one]
    if len(known) == 1:
        return known[0]
    joined: dict[int, float] = {}
    for one in known:
        for passage, score in one.items():
            joined[passage] = max(score, joined.get(passage, score))
    return joined


@lru_cache(maxsize=256)
def _reciprocal_ranks(count: int, constant: float) -> tuple[float, ...]:
    return tuple([1 / (constant + rank) for rank in range(1, count + 1)])


def _normalised(scores: Sequence[float]) -> list[float]:
    """0 for the lowest to 1 for the highest; 1 where all are equal."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
