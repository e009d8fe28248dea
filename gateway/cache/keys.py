"""Which searches are equal: a canonical form of their requests, and its SHA-256."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.cache.entry import FORMAT_VERSION
from gateway.catalog import CollectionEntry
from gateway.settings import GatewaySettings
from sirdar.v1 import collection_pb2, filter_pb2, query_pb2, search_pb2

# A larger filter stays in the order that it came in: sorting one of 10,000 values takes 8 ms.
_MAX_SORTED_BYTES = 4096
_DEFAULT_TOP_K = 10


@dataclass(frozen=True, slots=True)
class SearchKey:
    """`slot` is equal for equal searches, `shape` for those that differ in the query's text
    alone; it is None where their meaning is not all that they differ by."""

    slot: bytes
    shape: bytes | None


@dataclass(frozen=True, slots=True)
class ShapeKey:
    """`digest` is equal for searches that differ in the query's text alone; `by_meaning`: whether
    they are searched for by its meaning, and may be answered as one that is near."""

    digest: bytes
    by_meaning: bool

    def with_text(self, text: str) -> SearchKey:
        """Of a search for this text; empty where it has none."""
        slot = hashlib.sha256(self.digest + text.encode()).digest()
        return SearchKey(slot, self.digest if text and self.by_meaning else None)


class Keys:
    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        # Gateways that are set differently may share a Redis.
        self._server = repr(
            (FORMAT_VERSION, settings.max_highlight_sentences, settings.fusion)
        ).encode()

    def of_shape(
        self,
        request: search_pb2.SearchRequest,
        entries: Sequence[CollectionEntry],
        rerank_model: bytes = b"",
    ) -> ShapeKey:
        """Of a valid request, whatever its text; the entries are of its collections, in their
        order, and `rerank_model` is what the reranker scores with, if it reranks."""
        canonical = search_pb2.SearchRequest()
        canonical.CopyFrom(request)
        # They say how complete and how fresh an answer must be. Those that are kept are complete,
        # and show all that was committed.
        canonical.ClearField("cache")
        canonical.ClearField("consistency")
        canonical.ClearField("require_complete")
        tokens = sorted(set(request.consistency_tokens))
        canonical.consistency_tokens[:] = tokens
        canonical.namespace = entries[0].namespace
        if not canonical.HasField("top_k"):
            canonical.top_k = _DEFAULT_TOP_K
        if canonical.HasField("filter"):
            _sort(canonical.filter)
        canonical.ClearField("mode")
        canonical.ClearField("fusion")
        canonical.ClearField("rerank")
        resolved = [self._resolved(request, entry) for entry in entries]
        canonical.query = ""
        shape = hashlib.sha256(self._server)
        shape.update(canonical.SerializeToString(deterministic=True))
        for item in resolved:
            shape.update(item.SerializeToString(deterministic=True))
        if any(item.HasField("rerank") for item in resolved):
            shape.update(b"reranked by" + rerank_model)
        by_meaning = (
            len(entries) == 1
            and not request.HasField("like")
            # What is explained is what this very query found.
            and not request.explain
            and _by_meaning(request, resolved[0].mode)
        )
        return ShapeKey(shape.digest(), by_meaning)

    def _resolved(
        self, request: search_pb2.SearchRequest, entry: CollectionEntry
    ) -> search_pb2.SearchRequest:
        """What the request, else the collection, else the server says of mode, fusion and
        reranking; of the latter two only where there are any."""
        settings = self._settings
        resolved = search_pb2.SearchRequest(mode=request.mode)
        if request.mode == query_pb2.SEARCH_MODE_UNSPECIFIED:
            default = settings.search_mode.name if entry.lexical else "DENSE"
            resolved.mode = query_pb2.SearchMode.Value(f"SEARCH_MODE_{default}")
        if resolved.mode == query_pb2.SEARCH_MODE_HYBRID:
            plan = settings.fusion
            resolved.fusion.method = query_pb2.FusionMethod.Value(
                f"FUSION_METHOD_{plan.method.name}"
            )
            resolved.fusion.dense_weight = plan.dense_weight
            resolved.fusion.lexical_weight = plan.lexical_weight
            resolved.fusion.rank_constant = plan.rank_constant
            resolved.fusion.MergeFrom(request.fusion)
        rerank = collection_pb2.RerankSettings(
            enabled=settings.rerank_enabled and settings.reranker_address is not None,
            depth=settings.rerank_depth,
            weight=settings.rerank_weight,
            retriever_weight=settings.rerank_retriever_weight,
        )
        rerank.MergeFrom(entry.rerank)
        rerank.MergeFrom(request.rerank)
        # Stages say for themselves whether they rerank.
        if rerank.enabled or request.stages:
            resolved.rerank.CopyFrom(rerank)
        return resolved


def _by_meaning(request: search_pb2.SearchRequest, mode: query_pb2.SearchMode.ValueType) -> bool:
    """Whether the query itself is searched for by its vector."""
    if request.stages:
        return any(
            stage.WhichOneof("stage") == "dense" and not stage.dense.query
            for stage in request.stages
        )
    return mode != query_pb2.SEARCH_MODE_LEXICAL


def _sort(condition: filter_pb2.Filter) -> None:
    """Puts into one order what may stand in any: the conditions of a list, and values."""
    if condition.ByteSize() > _MAX_SORTED_BYTES:
        return
    kind = condition.WhichOneof("condition")
    if kind in ("all_of", "any_of", "none_of"):
        conditions = list(getattr(condition, kind).filters)
        for item in conditions:
            _sort(item)
        ordered = sorted(conditions, key=lambda item: item.SerializeToString(deterministic=True))
        getattr(condition, kind).CopyFrom(filter_pb2.FilterList(filters=ordered))
    elif kind == "one_of":
        values = {
            item.SerializeToString(deterministic=True): item for item in condition.one_of.values
        }
        ordered_values = [values[key] for key in sorted(values)]
        field = condition.one_of.field
        condition.one_of.CopyFrom(filter_pb2.OneOfCondition(field=field, values=ordered_values))
