"""A search as it was asked for, checked."""

from dataclasses import dataclass

from gateway.pipeline.fusion import FusionPlan, SearchMode, mode_of, plan_fusion
from gateway.pipeline.rerank import check_rerank
from gateway.settings import GatewaySettings
from gateway.validation import namespace_of, require_collection
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, common_pb2, filter_pb2, search_pb2

DEFAULT_TOP_K = 10
MAX_TOP_K = 1_000
MAX_CANDIDATES = 10_000


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A validated search."""

    namespace: str
    collection: str
    text: str
    top_k: int
    # Passages to consider; None: as many as top_k documents need.
    candidates: int | None
    exact: bool
    consistency: common_pb2.Consistency.ValueType
    consistency_tokens: tuple[str, ...]
    require_complete: bool
    rerank: collection_pb2.RerankSettings
    highlight: bool
    # As it travels: the retriever knows the schema and checks it.
    filter: filter_pb2.Filter | None
    # None: as the server is set.
    mode: SearchMode | None
    fusion: FusionPlan


def read_query(request: search_pb2.SearchRequest, settings: GatewaySettings) -> SearchQuery:
    """Raises InvalidArgument that names the field by its path."""
    top_k = _top_k(request)
    check_rerank(request.rerank, "rerank")
    return SearchQuery(
        namespace=namespace_of(request.namespace),
        collection=require_collection(request.collection),
        text=_text(request.query, settings),
        top_k=top_k,
        candidates=_candidates(request, top_k),
        exact=request.exact,
        consistency=_consistency(request),
        consistency_tokens=tuple(request.consistency_tokens),
        require_complete=request.require_complete,
        rerank=request.rerank,
        highlight=request.highlight,
        filter=request.filter if request.HasField("filter") else None,
        mode=mode_of(request.mode),
        fusion=plan_fusion(request.fusion, settings.fusion),
    )


def _text(text: str, settings: GatewaySettings) -> str:
    limit = settings.max_query_characters
    if not text.strip():
        raise InvalidArgument.field("query", "must not be empty")
    if len(text) > limit:
        raise InvalidArgument.field(
            "query", f"has {len(text)} characters; at most {limit} are allowed, shorten it"
        )
    if "\0" in text:
        raise InvalidArgument.field("query", "must not contain NUL characters; remove them")
    return text


def _top_k(request: search_pb2.SearchRequest) -> int:
    top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidArgument.field("top_k", f"is {top_k}; it must be 1 to {MAX_TOP_K}")
    return top_k


def _candidates(request: search_pb2.SearchRequest, top_k: int) -> int | None:
    """None: as many as top_k documents need."""
    if not request.HasField("candidates"):
        return None
    if not top_k <= request.candidates <= MAX_CANDIDATES:
        raise InvalidArgument.field(
            "candidates",
            f"is {request.candidates}; it must be top_k ({top_k}) to {MAX_CANDIDATES}",
        )
    return request.candidates


def _consistency(request: search_pb2.SearchRequest) -> common_pb2.Consistency.ValueType:
    if request.consistency == common_pb2.CONSISTENCY_SESSION and not request.consistency_tokens:
        raise InvalidArgument.field(
            "consistency_tokens", "must hold the tokens of the session's writes"
        )
    return request.consistency
