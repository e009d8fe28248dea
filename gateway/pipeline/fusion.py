"""Fusion: one order of passages from several, such as a query's dense and lexical candidates."""

from collections.abc import Mapping, Sequence

from gateway.pipeline.fusion_plan import FusionMethod
from gateway.pipeline.ranking import Ranking
from gateway.pipeline.stages import Fuse, Unit


def fuse(rankings: Sequence[Ranking], stage: Fuse) -> Ranking:
    """One order of passages from several, best first; equal scores as the rankings have them.

    The score is the weighted sum of what each ranking gives a passage, 0 where
    it is not in it. Reciprocal rank: Cormack, Clarke and Büttcher, Reciprocal
    rank fusion outperforms Condorcet and individual rank learning methods, 2009.
    """
    fused: dict[int, float] = {}
    for ranking in rankings:
        fused.update(dict.fromkeys(ranking.scores, 0.0))
    for ranking, weight in zip(rankings, stage.weights, strict=True):
        shares = (
            _reciprocal_ranks(len(ranking), stage.rank_constant)
            if stage.method is FusionMethod.RECIPROCAL_RANK
            else _normalised(list(ranking.scores.values()))
        )
        for passage, share in zip(ranking.scores, shares, strict=True):
            fused[passage] += weight * share
    return Ranking(
        Unit.PASSAGES,
        dict(sorted(fused.items(), key=_by_score)),
        similarities=_joined([ranking.similarities for ranking in rankings]),
        lexical_scores=_joined([ranking.lexical_scores for ranking in rankings]),
        rerank_scores=_joined([ranking.rerank_scores for ranking in rankings]),
        comparable=all(ranking.comparable for ranking in rankings),
    )


def _by_score(item: tuple[int, float]) -> float:
    return -item[1]


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


def _reciprocal_ranks(count: int, constant: float) -> list[float]:
    return [1 / (constant + rank) for rank in range(1, count + 1)]


def _normalised(scores: Sequence[float]) -> list[float]:
    """0 for the lowest to 1 for the highest; 1 where all are equal."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
