"""Diversity: results that are relevant and differ from each other."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.pipeline.ranking import Pool, Ranking
from gateway.vectors import unit_rows

# Up to here it takes less than a millisecond, and a thread would take longer to begin.
_LARGE = 128


async def diversify(pool: Pool, ranking: Ranking, relevance: float, depth: int) -> Ranking | None:
    """The `depth` best by maximal marginal relevance, the others as they were behind them.

    None where a vector is missing or they are not of one space.
    """
    head = list(ranking.scores)[:depth]
    vectors = [pool.passages[place].vector for place in head]
    if not ranking.comparable or not all(vector.data for vector in vectors):
        return None
    if not head:
        return ranking
    scores = np.array([ranking.scores[place] for place in head])
    if len(head) <= _LARGE:
        picked = marginal_relevance(scores, unit_rows(vectors), relevance)
    else:
        rows = await asyncio.to_thread(unit_rows, vectors)
        picked = await asyncio.to_thread(marginal_relevance, scores, rows, relevance)
    return _in_order(ranking, head, picked, relevance)


def marginal_relevance(
    scores: NDArray[np.float64], rows: NDArray[np.float32], relevance: float
) -> list[tuple[int, float, float]]:
    """All rows, in the order in which they are chosen: place, normalised score and the highest
    similarity to those chosen before (the first: 0).

    `scores` has shape (n,), `rows` (n, dimensions) and length 1. Carbonell and
    Goldstein, The use of MMR, diversity-based reranking, 1998.
    """
    low, high = scores.min(), scores.max()
    worth = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    nearest = np.zeros_like(worth)
    open_ = np.ones(len(worth), dtype=bool)
    chosen: list[tuple[int, float, float]] = []
    for step in range(len(worth)):
        margin = relevance * worth - (1 - relevance) * nearest
        place = int(np.argmax(np.where(open_, margin, -np.inf)))
        chosen.append((place, float(worth[place]), float(nearest[place])))
        open_[place] = False
        similarity = rows @ rows[place]
        nearest = similarity if step == 0 else np.maximum(nearest, similarity)
    return chosen


def _in_order(
    ranking: Ranking,
    head: Sequence[int],
    picked: Sequence[tuple[int, float, float]],
    relevance: float,
) -> Ranking:
    scores: dict[int, float] = {}
    marginal: dict[int, tuple[float, float]] = {}
    lowest = np.inf
    for at, worth, nearest in picked:
        # The first is chosen before there is anything to differ from.
        lowest = min(lowest, relevance * worth - (1 - relevance) * nearest)
        scores[head[at]] = lowest
        marginal[head[at]] = (worth, nearest)
    for place in ranking.scores:
        if place not in scores:
            scores[place] = lowest
    return replace(ranking.reordered(scores), marginal=marginal)
