"""Fusion: one order of passages from a query's dense and lexical candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2, retriever_pb2


class SearchMode(StrEnum):
    """Which candidates a search ranks."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"

    @property
    def by_meaning(self) -> bool:
        return self is not SearchMode.LEXICAL

    @property
    def by_words(self) -> bool:
        return self is not SearchMode.DENSE


class FusionMethod(StrEnum):
    RECIPROCAL_RANK = "reciprocal_rank"
    WEIGHTED_SCORES = "weighted_scores"


_MODES = {
    query_pb2.SEARCH_MODE_DENSE: SearchMode.DENSE,
    query_pb2.SEARCH_MODE_LEXICAL: SearchMode.LEXICAL,
    query_pb2.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
}
_METHODS = {
    query_pb2.FUSION_METHOD_RECIPROCAL_RANK: FusionMethod.RECIPROCAL_RANK,
    query_pb2.FUSION_METHOD_WEIGHTED_SCORES: FusionMethod.WEIGHTED_SCORES,
}


@dataclass(frozen=True, slots=True)
class FusionPlan:
    """How one search makes one order of its lists; the weights are not both 0."""

    method: FusionMethod
    dense_weight: float
    lexical_weight: float
    rank_constant: float


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A candidate: `passage` is its place in the answer's passages, `score` orders it.

    `similarity` and `lexical_score` are None where the list does not have it.
    """

    passage: int
    score: float
    similarity: float | None
    lexical_score: float | None


def mode_of(mode: query_pb2.SearchMode.ValueType) -> SearchMode | None:
    """None: as the server is set. Raises InvalidArgument."""
    if mode == query_pb2.SEARCH_MODE_UNSPECIFIED:
        return None
    if mode not in _MODES:
        raise InvalidArgument.field("mode", f"{mode} is not known; update the gateway or ask less")
    return _MODES[mode]


def plan_fusion(message: query_pb2.Fusion, default: FusionPlan) -> FusionPlan:
    """What the message says, else the default. Raises InvalidArgument that names the field."""
    plan = default
    if message.method != query_pb2.FUSION_METHOD_UNSPECIFIED:
        if message.method not in _METHODS:
            raise InvalidArgument.field("fusion.method", f"{message.method} is not known")
        plan = replace(plan, method=_METHODS[message.method])
    if message.HasField("dense_weight"):
        plan = replace(plan, dense_weight=message.dense_weight)
    if message.HasField("lexical_weight"):
        plan = replace(plan, lexical_weight=message.lexical_weight)
    if message.HasField("rank_constant"):
        plan = replace(plan, rank_constant=message.rank_constant)
    _at_least("fusion.dense_weight", plan.dense_weight, 0)
    _at_least("fusion.lexical_weight", plan.lexical_weight, 0)
    _at_least("fusion.rank_constant", plan.rank_constant, 1)
    if not math.isfinite(plan.dense_weight + plan.lexical_weight):
        raise InvalidArgument.field("fusion.dense_weight", "and lexical_weight are too large")
    if plan.dense_weight == plan.lexical_weight == 0:
        raise InvalidArgument.field("fusion.dense_weight", "and lexical_weight must not both be 0")
    return plan


def _at_least(field: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise InvalidArgument.field(field, f"is {value:g}; it must be {least:g} or more")


def ranked(
    found: retriever_pb2.PassageCandidates, mode: SearchMode, plan: FusionPlan
) -> list[RankedPassage]:
    """The candidates of all shards in one order, best first; equal scores as the lists have them.

    Of one list they are in its order and have its scores. Of two, reciprocal
    rank: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods, 2009.
    """
    similarities = {candidate.passage: candidate.score for candidate in found.dense}
    words = {candidate.passage: candidate.score for candidate in found.lexical}
    if mode is SearchMode.HYBRID:
        scores: Mapping[int, float] = _fused(similarities, words, plan)
    else:
        scores = similarities if mode.by_meaning else words
    return [
        RankedPassage(passage, score, similarities.get(passage), words.get(passage))
        for passage, score in sorted(scores.items(), key=lambda item: -item[1])
    ]


def _fused(
    similarities: Mapping[int, float], words: Mapping[int, float], plan: FusionPlan
) -> dict[int, float]:
    """The weighted sum of what each list, best first, gives a passage; 0 where it is not in it."""
    fused = dict.fromkeys([*similarities, *words], 0.0)
    for scores, weight in ((similarities, plan.dense_weight), (words, plan.lexical_weight)):
        shares = (
            _reciprocal_ranks(len(scores), plan.rank_constant)
            if plan.method is FusionMethod.RECIPROCAL_RANK
            else _normalised(list(scores.values()))
        )
        for passage, share in zip(scores, shares, strict=True):
            fused[passage] += weight * share
    return fused


def _reciprocal_ranks(count: int, rank_constant: float) -> list[float]:
    return [1 / (rank_constant + rank) for rank in range(1, count + 1)]


def _normalised(scores: Sequence[float]) -> list[float]:
    """0 for the lowest to 1 for the highest; 1 where all are equal."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
