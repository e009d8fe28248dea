"""Measures of ranking quality against graded judgements."""

import math
from collections.abc import Mapping, Sequence


def ndcg(ranking: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """nDCG@k with linear gain: the sum of grade / log2(rank + 1), over its best value.

    `ranking` holds document ids, best first; ids without a grade count 0. An
    empty or all-zero `grades` gives 0. Source: Järvelin and Kekäläinen,
    Cumulated gain-based evaluation of IR techniques, 2002, with the discount
    that trec_eval's ndcg_cut uses.
    """
    gains = [grades.get(identity, 0.0) for identity in ranking[:k]]
    ideal = sorted(grades.values(), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(gains) / best if best > 0 else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
