"""What a search ranks, and how it makes one order of its dense and its lexical candidates."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2


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


def mode_of(mode: query_pb2.SearchMode.ValueType) -> SearchMode | None:
    """None: as the server is set. Raises InvalidArgument."""
    if mode == query_pb2.SEARCH_MODE_UNSPECIFIED:
        return None
    if mode not in _MODES:
        raise InvalidArgument.field("mode", f"{mode} is not known; update the gateway or ask less")
    return _MODES[mode]


def method_of(method: query_pb2.FusionMethod.ValueType, field: str) -> FusionMethod | None:
    """None: as the server is set. Raises InvalidArgument."""
    if method == query_pb2.FUSION_METHOD_UNSPECIFIED:
        return None
    if method not in _METHODS:
        raise InvalidArgument.field(field, f"{method} is not known")
    return _METHODS[method]


def plan_fusion(message: query_pb2.Fusion, default: FusionPlan) -> FusionPlan:
    """What the message says, else the default. Raises InvalidArgument that names the field."""
    plan = default
    plan = replace(plan, method=method_of(message.method, "fusion.method") or plan.method)
    if message.HasField("dense_weight"):
        plan = replace(plan, dense_weight=message.dense_weight)
    if message.HasField("lexical_weight"):
        plan = replace(plan, lexical_weight=message.lexical_weight)
    if message.HasField("rank_constant"):
        plan = replace(plan, rank_constant=message.rank_constant)
    at_least("fusion.dense_weight", plan.dense_weight, 0)
    at_least("fusion.lexical_weight", plan.lexical_weight, 0)
    at_least("fusion.rank_constant", plan.rank_constant, 1)
    if not math.isfinite(plan.dense_weight + plan.lexical_weight):
        raise InvalidArgument.field("fusion.dense_weight", "and lexical_weight are too large")
    if plan.dense_weight == plan.lexical_weight == 0:
        raise InvalidArgument.field("fusion.dense_weight", "and lexical_weight must not both be 0")
    return plan


def at_least(field: str, value: float, least: float) -> None:
    """Raises InvalidArgument."""
    if not (math.isfinite(value) and value >= least):
        raise InvalidArgument.field(field, f"is {value:g}; it must be {least:g} or more")
