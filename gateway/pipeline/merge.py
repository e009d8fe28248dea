"""Several collections: one order of what the same stage found in each."""

from collections.abc import Mapping, Sequence

from gateway.pipeline.ranking import Ranking
from gateway.pipeline.stages import Unit


def merge(
    found: Sequence[Mapping[int, Ranking]], *, comparable: bool, rank_constant: float
) -> dict[int, Ranking]:
    """The rankings of each prefetch stage, over all collections, by its place in the graph.

    Similarities are put in order as they are where `comparable`: of one space,
    compared in one way. BM25 depends on what else is in a collection and never
    is. What cannot be compared has the score of its rank in its own collection,
    1 / (rank_constant + rank), those of equal rank in the order of the collections.
    """
    stages = dict.fromkeys(at for rankings in found for at in rankings)
    return {
        at: _merged(
            [rankings[at] for rankings in found if at in rankings], comparable, rank_constant
        )
        for at in stages
    }


def _merged(rankings: Sequence[Ranking], comparable: bool, rank_constant: float) -> Ranking:
    if len(rankings) == 1:
        return rankings[0]
    similarities: dict[int, float] = {}
    lexical_scores: dict[int, float] = {}
    for ranking in rankings:
        similarities.update(ranking.similarities)
        lexical_scores.update(ranking.lexical_scores)
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (place, score) in enumerate(ranking.scores.items(), 1):
            by_score = comparable and not ranking.lexical_scores
            scores[place] = score if by_score else 1 / (rank_constant + rank)
    return Ranking(
        Unit.PASSAGES,
        dict(sorted(scores.items(), key=lambda item: -item[1])),
        similarities=similarities,
        lexical_scores=lexical_scores,
        comparable=comparable,
    )
