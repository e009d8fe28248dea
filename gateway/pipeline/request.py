"""Reading a search from its request: what is wrong is named by its path, with the fix."""

from gateway.pipeline.checks import check_text, in_range, known
from gateway.pipeline.plan import MAX_CANDIDATES
from gateway.pipeline.query import ReturnedFields, SearchQuery
from gateway.pipeline.rerank_plan import check_rerank
from gateway.pipeline.shape_request import check_shape, read_shape, read_threshold
from gateway.pipeline.stage_requests import read_graph
from gateway.pipeline.stages import Dense, Graph, Lexical, Rerank
from gateway.settings import GatewaySettings
from gateway.validation import check_document_id, namespace_of, require_collection
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2, query_pb2, search_pb2

DEFAULT_TOP_K = 10
MAX_TOP_K = 1_000
MAX_COLLECTIONS = 16


def read_query(request: search_pb2.SearchRequest, settings: GatewaySettings) -> SearchQuery:
    """Raises InvalidArgument that names the field by its path."""
    top_k, offset = _page(request)
    check_rerank(request.rerank, "rerank")
    check_shape(request, offset + top_k)
    stages = read_graph(request.stages, settings) if request.stages else None
    several = bool(request.collections)
    if several and request.HasField("like"):
        raise InvalidArgument.field("like", "is of one collection; name it in collection")
    fields = _fields(request)
    return SearchQuery(
        namespace=namespace_of(request.namespace),
        collections=_collections(request),
        text=_text(request, stages, settings),
        like=_like(request),
        top_k=top_k,
        offset=offset,
        consistency=_consistency(request),
        consistency_tokens=tuple(request.consistency_tokens),
        require_complete=request.require_complete,
        filter=request.filter if request.HasField("filter") else None,
        rerank=request.rerank,
        shape=read_shape(request, _candidates(request, offset + top_k), settings),
        stages=stages,
        threshold=read_threshold(request.threshold, "threshold")
        if request.HasField("threshold")
        else None,
        fields=fields,
        highlight=request.highlight,
        explain=request.explain,
        cache=known("cache", request.cache, query_pb2.CacheUse),
        several=several,
    )


def _page(request: search_pb2.SearchRequest) -> tuple[int, int]:
    top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
    in_range("top_k", top_k, 1, MAX_TOP_K)
    if not 0 <= request.offset <= MAX_TOP_K - top_k:
        raise InvalidArgument.field(
            "offset",
            f"is {request.offset}; with top_k {top_k} it must be 0 to {MAX_TOP_K - top_k}",
        )
    return top_k, request.offset


def _collections(request: search_pb2.SearchRequest) -> tuple[str, ...]:
    names = tuple(request.collections)
    if not names:
        return (require_collection(request.collection),)
    if request.collection:
        raise InvalidArgument.field("collections", "and collection are both given; give one")
    if len(names) > MAX_COLLECTIONS:
        raise InvalidArgument.field(
            "collections", f"are {len(names)}; at most {MAX_COLLECTIONS} are allowed, ask fewer"
        )
    for at, name in enumerate(names):
        require_collection(name, f"collections[{at}]")
        if name in names[:at]:
            raise InvalidArgument.field(f"collections[{at}]", f"is {name} again; name it once")
    return names


def _text(
    request: search_pb2.SearchRequest, stages: Graph | None, settings: GatewaySettings
) -> str:
    """Empty where it is more like a document, or where no stage asks for it."""
    if request.HasField("like"):
        if request.query:
            raise InvalidArgument.field("like", "and query are both given; give one")
        return ""
    if not request.query and stages is not None and not request.highlight:
        asking = [node.stage for node in stages.nodes]
        if all(one.query for one in asking if isinstance(one, Dense | Lexical | Rerank)):
            return ""
    return check_text(request.query, "query", settings)


def _like(request: search_pb2.SearchRequest) -> str:
    if not request.HasField("like"):
        return ""
    return check_document_id(request.like.document_id, "like.document_id")


def _candidates(request: search_pb2.SearchRequest, wanted: int) -> int | None:
    """None: as many as the results need."""
    if not request.HasField("candidates"):
        return None
    if not wanted <= request.candidates <= MAX_CANDIDATES:
        least = "offset + top_k" if request.offset else "top_k"
        raise InvalidArgument.field(
            "candidates",
            f"is {request.candidates}; it must be {least} ({wanted}) to {MAX_CANDIDATES}",
        )
    return request.candidates


def _consistency(request: search_pb2.SearchRequest) -> common_pb2.Consistency.ValueType:
    if request.consistency == common_pb2.CONSISTENCY_SESSION and not request.consistency_tokens:
        raise InvalidArgument.field(
            "consistency_tokens", "must hold the tokens of the session's writes"
        )
    if request.consistency_tokens and len(request.collections) > 1:
        raise InvalidArgument.field(
            "consistency_tokens",
            "are each of one collection; ask several with CONSISTENCY_STRONG",
        )
    return request.consistency


def _fields(request: search_pb2.SearchRequest) -> ReturnedFields:
    wanted = request.fields
    if wanted.metadata_fields and wanted.HasField("metadata") and not wanted.metadata:
        raise InvalidArgument.field(
            "fields.metadata_fields", "are named, and metadata is false; leave one out"
        )
    text = wanted.text if wanted.HasField("text") else True
    if request.highlight and not text:
        raise InvalidArgument.field(
            "fields.text", "is false, and highlight marks it; leave one out"
        )
    return ReturnedFields(
        text=text,
        title=wanted.title if wanted.HasField("title") else True,
        metadata=wanted.metadata if wanted.HasField("metadata") else True,
        metadata_fields=frozenset(wanted.metadata_fields),
    )
