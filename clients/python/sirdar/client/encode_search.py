"""What a search is asked, into the messages of the contract."""

from collections.abc import Sequence

from sirdar.client import encode
from sirdar.client.options import SearchOptions
from sirdar.client.query import (
    CacheUse,
    Collapse,
    CollapseMethod,
    Diversity,
    Grouping,
    ReturnedFields,
    SearchUnit,
    Threshold,
)
from sirdar.client.results import Consistency
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2, query_pb2, search_pb2

_CONSISTENCIES = {
    Consistency.EVENTUAL: common_pb2.CONSISTENCY_EVENTUAL,
    Consistency.SESSION: common_pb2.CONSISTENCY_SESSION,
    Consistency.STRONG: common_pb2.CONSISTENCY_STRONG,
}


def search_request(
    namespace: str, collection: str | Sequence[str], query: str, options: SearchOptions
) -> search_pb2.SearchRequest:
    """Raises InvalidArgument for what cannot be sent."""
    encode.known(options, SearchOptions)
    request = search_pb2.SearchRequest(
        namespace=namespace,
        query=encode.text("query", query),
        exact=options.get("exact", False),
        consistency_tokens=encode.texts("tokens", options.get("tokens", ())),
        require_complete=options.get("require_complete", False),
        highlight=options.get("highlight", False),
        explain=encode.boolean("explain", options.get("explain", False)),
        offset=encode.int32("offset", options.get("offset", 0)),
        stages=options.get("stages", ()),
    )
    if isinstance(collection, str):
        request.collection = encode.text("collection", collection)
    else:
        request.collections.extend(encode.texts("collections", collection))
        if not request.collections:
            raise InvalidArgument.field("collections", "must name a collection")
    if "consistency" in options:
        request.consistency = _CONSISTENCIES[options["consistency"]]
    if "top_k" in options:
        request.top_k = encode.int32("top_k", options["top_k"])
    if "candidates" in options:
        request.candidates = encode.int32("candidates", options["candidates"])
    _ranking(request, options)
    _shape(request, options)
    return request


def _ranking(request: search_pb2.SearchRequest, options: SearchOptions) -> None:
    if "rerank" in options:
        request.rerank.CopyFrom(encode.rerank_settings("rerank", options["rerank"]))
    if "filter" in options:
        request.filter.CopyFrom(encode.filter_("filter", options["filter"]))
    if "mode" in options:
        request.mode = encode.mode("mode", options["mode"])
    if "fusion" in options:
        request.fusion.CopyFrom(encode.fusion("fusion", options["fusion"]))
    if "like" in options:
        request.like.document_id = encode.text("like", options["like"])


def _shape(request: search_pb2.SearchRequest, options: SearchOptions) -> None:
    if "cache" in options:
        use = encode.choice("cache", options["cache"], CacheUse)
        request.cache = query_pb2.CacheUse.Value(f"CACHE_USE_{use}")
    if "unit" in options:
        unit = encode.choice("unit", options["unit"], SearchUnit)
        request.unit = query_pb2.SearchUnit.Value(f"SEARCH_UNIT_{unit}")
    if "collapse" in options:
        request.collapse.CopyFrom(_collapse(options["collapse"]))
    if "group" in options:
        request.group.CopyFrom(_grouping(options["group"]))
    if "diversify" in options:
        request.diversify.CopyFrom(_diversity(options["diversify"]))
    if "threshold" in options:
        request.threshold.CopyFrom(_threshold(options["threshold"]))
    if "fields" in options:
        request.fields.CopyFrom(_fields(options["fields"]))


def _collapse(value: Collapse) -> query_pb2.Collapse:
    method = encode.choice("collapse.method", value.method, CollapseMethod)
    message = query_pb2.Collapse(method=query_pb2.CollapseMethod.Value(f"COLLAPSE_METHOD_{method}"))
    if value.passages is not None:
        message.passages = encode.int32("collapse.passages", value.passages)
    return message


def _grouping(value: Grouping) -> query_pb2.Grouping:
    return query_pb2.Grouping(
        field=encode.text("group.field", value.field),
        limit=encode.int32("group.limit", value.limit),
    )


def _diversity(value: Diversity) -> query_pb2.Diversity:
    message = query_pb2.Diversity()
    if value.relevance is not None:
        message.relevance = encode.number("diversify.relevance", value.relevance)
    if value.depth is not None:
        message.depth = encode.int32("diversify.depth", value.depth)
    return message


def _threshold(value: Threshold) -> query_pb2.ScoreThreshold:
    message = query_pb2.ScoreThreshold()
    for name in ("score", "similarity", "lexical_score", "rerank_score"):
        least = getattr(value, name)
        if least is not None:
            setattr(message, name, encode.number(f"threshold.{name}", least))
    return message


def _fields(value: ReturnedFields) -> query_pb2.ReturnedFields:
    message = query_pb2.ReturnedFields(
        text=encode.boolean("fields.text", value.text),
        title=encode.boolean("fields.title", value.title),
        metadata_fields=encode.texts("fields.metadata_fields", value.metadata_fields),
    )
    if not encode.boolean("fields.metadata", value.metadata):
        message.metadata = False
    return message
