"""Reading what a search without stages of its own says of them, and what contradicts itself."""

from typing import Literal, TypeAlias, get_args

from gateway.pipeline.checks import finite, in_range, known
from gateway.pipeline.fusion_plan import mode_of, plan_fusion
from gateway.pipeline.query import SearchShape
from gateway.pipeline.stages import Collapse, Diversify, Group, Threshold, Unit
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2, search_pb2

MAX_MEAN_OF = 100
MAX_GROUP_LIMIT = 100
MAX_DIVERSITY_DEPTH = 1_000
_DEFAULT_MEAN_OF = 3
_DEFAULT_RELEVANCE = 0.7
_Score: TypeAlias = Literal["score", "similarity", "lexical_score", "rerank_score"]
_SCORES: tuple[_Score, ...] = get_args(_Score)


def read_shape(
    request: search_pb2.SearchRequest, candidates: int | None, settings: GatewaySettings
) -> SearchShape:
    """Raises InvalidArgument that names the field by its path."""
    unit = known("unit", request.unit, query_pb2.SearchUnit)
    return SearchShape(
        mode=mode_of(request.mode),
        fusion=plan_fusion(request.fusion, settings.fusion),
        candidates=candidates,
        exact=request.exact,
        unit=Unit.PASSAGES if unit == query_pb2.SEARCH_UNIT_PASSAGES else Unit.DOCUMENTS,
        collapse=read_collapse(request.collapse, "collapse"),
        diversify=read_diversity(request.diversify, "diversify")
        if request.HasField("diversify")
        else None,
        group=read_grouping(request.group, "group") if request.HasField("group") else None,
    )


def read_collapse(message: query_pb2.Collapse, path: str) -> Collapse:
    method = known(f"{path}.method", message.method, query_pb2.CollapseMethod)
    if method != query_pb2.COLLAPSE_METHOD_MEAN_OF_BEST:
        if message.HasField("passages"):
            raise InvalidArgument.field(
                f"{path}.passages",
                "is of COLLAPSE_METHOD_MEAN_OF_BEST; name that method or leave it out",
            )
        return Collapse()
    passages = message.passages if message.HasField("passages") else _DEFAULT_MEAN_OF
    return Collapse(in_range(f"{path}.passages", passages, 1, MAX_MEAN_OF))


def read_diversity(message: query_pb2.Diversity, path: str) -> Diversify:
    relevance = message.relevance if message.HasField("relevance") else _DEFAULT_RELEVANCE
    # NaN is in no range.
    if not 0 <= relevance <= 1:
        raise InvalidArgument.field(f"{path}.relevance", f"is {relevance:g}; it must be 0 to 1")
    depth: int | None = None
    if message.HasField("depth"):
        depth = in_range(f"{path}.depth", message.depth, 1, MAX_DIVERSITY_DEPTH)
    return Diversify(relevance, depth)


def read_grouping(message: query_pb2.Grouping, path: str) -> Group:
    if not message.field:
        raise InvalidArgument.field(f"{path}.field", "must name a metadata field")
    limit = message.limit if message.HasField("limit") else 1
    return Group(message.field, in_range(f"{path}.limit", limit, 1, MAX_GROUP_LIMIT))


def read_threshold(message: query_pb2.ScoreThreshold, path: str) -> Threshold:
    found = {
        name: finite(f"{path}.{name}", getattr(message, name))
        for name in _SCORES
        if message.HasField(name)
    }
    return Threshold(**found)


def check_shape(request: search_pb2.SearchRequest, wanted: int) -> None:
    """`wanted`: offset and top_k together.

    Raises InvalidArgument for fields that say what others rule out.
    """
    if request.stages:
        _check_unset_beside_stages(request)
    if request.unit == query_pb2.SEARCH_UNIT_PASSAGES and request.HasField("collapse"):
        raise InvalidArgument.field(
            "collapse", "makes documents of passages, and unit asks for passages; leave one out"
        )
    _check_mode(request)
    rerank = request.rerank
    if rerank.HasField("enabled") and not rerank.enabled:
        _refuse_threshold(request, "rerank_score", "rerank.enabled is false")
    diversity = request.diversify
    if diversity.HasField("depth") and diversity.depth < wanted:
        raise InvalidArgument.field(
            "diversify.depth",
            f"is {diversity.depth}; it must be offset + top_k ({wanted}) to {MAX_DIVERSITY_DEPTH}",
        )


def _check_unset_beside_stages(request: search_pb2.SearchRequest) -> None:
    given = {
        "mode": request.mode != query_pb2.SEARCH_MODE_UNSPECIFIED,
        "fusion": request.HasField("fusion"),
        "candidates": request.HasField("candidates"),
        "exact": request.exact,
        "unit": request.unit != query_pb2.SEARCH_UNIT_UNSPECIFIED,
        "collapse": request.HasField("collapse"),
        "rerank": request.HasField("rerank"),
        "diversify": request.HasField("diversify"),
        "group": request.HasField("group"),
    }
    for field, is_given in given.items():
        if is_given:
            raise InvalidArgument.field(field, "must be unset beside stages; say it in one of them")


def _check_mode(request: search_pb2.SearchRequest) -> None:
    if request.mode == query_pb2.SEARCH_MODE_LEXICAL:
        if request.exact:
            raise InvalidArgument.field(
                "exact", "is about vectors, and mode lexical has none; leave one out"
            )
        _refuse_threshold(request, "similarity", "mode lexical has none")
    if request.mode == query_pb2.SEARCH_MODE_DENSE:
        _refuse_threshold(request, "lexical_score", "mode dense has none")
    one_list = request.mode in (query_pb2.SEARCH_MODE_LEXICAL, query_pb2.SEARCH_MODE_DENSE)
    if one_list and request.HasField("fusion"):
        raise InvalidArgument.field(
            "fusion", "is of two lists, and the mode has one; leave one out"
        )


def _refuse_threshold(request: search_pb2.SearchRequest, score: _Score, why: str) -> None:
    if request.threshold.HasField(score):
        raise InvalidArgument.field(
            f"threshold.{score}", f"leaves nothing, as {why}; leave one out"
        )
