"""The messages of the contract into Python values."""

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from sirdar.client.collection import (
    Collection,
    EmbeddingSpace,
    FieldType,
    Generation,
    LexicalSettings,
    Model,
    RerankSettings,
    Similarity,
)
from sirdar.client.documents import (
    DeleteOutcome,
    Document,
    FilterDeletion,
    IndexOutcome,
    MetadataValue,
    StoredDocument,
    UpdateOutcome,
    WriteReceipt,
)
from sirdar.client.results import (
    CacheOutcome,
    CollectionCoverage,
    Coverage,
    Degradation,
    SearchResult,
    SearchResults,
    Snippet,
    Span,
    StageScore,
    StageTiming,
)
from sirdar.client.searches import SearchOutcome, SimilarityOutcome
from sirdar.errors import Unimplemented, from_status
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, filter_pb2, query_pb2, search_pb2

_SIMILARITIES = {
    collection_pb2.SIMILARITY_COSINE: Similarity.COSINE,
    collection_pb2.SIMILARITY_DOT: Similarity.DOT,
}

_STAGES = common_pb2.Stage.DESCRIPTOR, "STAGE_"
_FIELD_TYPES = filter_pb2.FieldType.DESCRIPTOR, "FIELD_TYPE_"
_CACHE_STATUSES = query_pb2.CacheStatus.DESCRIPTOR, "CACHE_STATUS_"
_DEGRADED_REASONS = common_pb2.DegradedReason.DESCRIPTOR, "DEGRADED_REASON_"


def _word(enum: tuple[EnumDescriptor, str], number: int) -> str:
    """The value's name without the enum's prefix; a newer server may send one we do not know."""
    descriptor, prefix = enum
    value = descriptor.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value else f"unknown_{number}"


def instant(message: Timestamp) -> datetime:
    """UTC, cut to microseconds, which is what a datetime holds."""
    return message.ToDatetime(tzinfo=UTC)


def metadata(message: Mapping[str, document_pb2.MetadataValue]) -> dict[str, MetadataValue]:
    return {key: metadata_value(key, value) for key, value in message.items()}


def metadata_value(key: str, message: document_pb2.MetadataValue) -> MetadataValue:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise Unimplemented(
            f"metadata.{key} is of a kind that this client does not know; update the package sirdar"
        )
    if kind == "string_list":
        return list(message.string_list.values)
    if kind == "timestamp_value":
        return instant(message.timestamp_value)
    value: str | int | float | bool = getattr(message, kind)
    return value


def document(message: document_pb2.Document) -> Document:
    return Document(
        message.id,
        message.text,
        message.title,
        metadata(message.metadata),
        instant(message.expires) if message.HasField("expires") else None,
    )


def receipt(message: document_pb2.WriteReceipt) -> WriteReceipt:
    return WriteReceipt(
        version=message.version,
        consistency_token=message.consistency_token,
        passages=message.passages,
        unchanged=message.unchanged,
        written=instant(message.written),
    )


def stored_document(message: document_pb2.StoredDocument) -> StoredDocument:
    return StoredDocument(document(message.document), receipt(message.receipt))


def index_outcome(message: search_pb2.IndexOutcome, index: int) -> IndexOutcome:
    """The outcome at the caller's `index`, which a resumed stream's own does not know."""
    failed = message.WhichOneof("outcome") == "error"
    return IndexOutcome(
        index=index,
        document_id=message.document_id,
        receipt=None if failed else receipt(message.receipt),
        error=from_status(message.error) if failed else None,
        duplicate=message.duplicate,
    )


def update_outcome(message: document_pb2.WriteOutcome) -> UpdateOutcome:
    failed = message.HasField("error")
    return UpdateOutcome(
        document_id=message.document_id,
        receipt=None if failed else receipt(message.receipt),
        error=from_status(message.error) if failed else None,
    )


def delete_outcome(message: document_pb2.DeleteOutcome) -> DeleteOutcome:
    return DeleteOutcome(
        document_id=message.document_id,
        existed=message.existed,
        consistency_token=message.consistency_token,
        error=from_status(message.error) if message.HasField("error") else None,
    )


def filter_deletion(message: search_pb2.DeleteByFilterResponse) -> FilterDeletion:
    return FilterDeletion(message.documents, tuple(message.consistency_tokens))


def space(message: common_pb2.EmbeddingSpace) -> EmbeddingSpace:
    model = Model(message.model.name, message.model.revision)
    return EmbeddingSpace(model, message.dimensions, message.fingerprint)


def collection(message: collection_pb2.Collection) -> Collection:
    generation = message.generation
    return Collection(
        name=message.name,
        namespace=message.namespace,
        description=message.description,
        generation=Generation(
            number=generation.number,
            space=space(generation.space),
            shards=generation.shards,
            index_kind=generation.index_kind,
            similarity=_SIMILARITIES.get(generation.similarity),
        ),
        created=instant(message.created),
        updated=instant(message.updated),
        documents=message.documents,
        passages=message.passages,
        labels=dict(message.labels),
        rerank=rerank_settings(message.rerank),
        schema={item.name: _field_type(item) for item in message.schema},
        lexical=LexicalSettings(message.lexical.enabled, message.lexical.language),
        index_explanation=message.index_explanation,
    )


def _field_type(message: filter_pb2.FieldSchema) -> FieldType:
    try:
        return FieldType(_word(_FIELD_TYPES, message.type))
    except ValueError:
        raise Unimplemented(
            f"the field {message.name} is of a type that this client does not know; update the "
            "package sirdar"
        ) from None


def rerank_settings(message: collection_pb2.RerankSettings) -> RerankSettings:
    return RerankSettings(
        enabled=message.enabled if message.HasField("enabled") else None,
        depth=message.depth if message.HasField("depth") else None,
        weight=message.weight if message.HasField("weight") else None,
        retriever_weight=message.retriever_weight if message.HasField("retriever_weight") else None,
    )


def search_results(message: search_pb2.SearchResponse) -> SearchResults:
    return SearchResults(
        results=tuple(_search_result(result) for result in message.results),
        timings=tuple(
            StageTiming(_word(_STAGES, item.stage), item.duration.ToTimedelta())
            for item in message.timings
        ),
        space=space(message.space),
        coverage=_coverage(message.coverage),
        degraded=tuple(
            Degradation(_word(_DEGRADED_REASONS, item.reason), item.detail)
            for item in message.degraded
        ),
        pool=message.pool,
        collections=tuple(
            CollectionCoverage(item.collection, space(item.space), _coverage(item.coverage))
            for item in message.collections
        ),
        cache=_cache_outcome(message.cache) if message.HasField("cache") else None,
    )


def _cache_outcome(message: query_pb2.CacheOutcome) -> CacheOutcome:
    return CacheOutcome(
        _word(_CACHE_STATUSES, message.status),
        message.similarity if message.HasField("similarity") else None,
    )


def _coverage(message: common_pb2.Coverage) -> Coverage:
    return Coverage(
        shards_asked=message.shards_asked,
        shards_answered=message.shards_answered,
        missing_shards=tuple(message.missing_shards),
        pending_writes=message.pending_writes,
    )


def search_outcome(message: search_pb2.SearchOutcome) -> SearchOutcome:
    if message.HasField("error"):
        return SearchOutcome(message.id, error=from_status(message.error))
    return SearchOutcome(
        message.id, search_results(message.response), preliminary=message.preliminary
    )


def similarity_outcome(message: search_pb2.SimilarityOutcome) -> SimilarityOutcome:
    if message.HasField("error"):
        return SimilarityOutcome(error=from_status(message.error))
    return SimilarityOutcome(message.similarity)


def _search_result(message: search_pb2.SearchResult) -> SearchResult:
    snippet = message.snippet
    return SearchResult(
        document_id=message.document_id,
        score=message.score,
        similarity=message.similarity if message.HasField("similarity") else None,
        lexical_score=message.lexical_score if message.HasField("lexical_score") else None,
        title=message.title,
        metadata=metadata(message.metadata),
        version=message.version,
        snippet=Snippet(
            text=snippet.text,
            start=snippet.span.start,
            end=snippet.span.end,
            passage_index=snippet.passage_index,
            highlights=tuple(Span(span.start, span.end) for span in snippet.highlights),
        ),
        matched_passages=message.matched_passages,
        rerank_score=message.rerank_score if message.HasField("rerank_score") else None,
        retriever_rank=message.retriever_rank,
        collection=message.collection,
        group=metadata_value("group", message.group) if message.HasField("group") else None,
        explanation=tuple(
            StageScore(item.stage, item.rank, item.score, item.detail)
            for item in message.explanation.stages
        ),
    )
