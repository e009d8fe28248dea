"""From what the retriever works with to the messages of answers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from services.retriever import metadata, schema
from services.retriever.open_collection import OpenCollection
from services.retriever.passage_search import CoveredAnswer, PassageSearch
from services.retriever.recall.auditor import CollectionRecall
from services.retriever.shard import Shard, ShardState
from services.retriever.store.placement import shard_of
from services.retriever.store.records import (
    Collection,
    Deletion,
    EmbeddedDocument,
    Generation,
    Passage,
    Receipt,
    Similarity,
    StoredDocument,
    WriteResult,
)
from services.retriever.tokens import consistency_token
from services.retriever.view_search import Found
from sirdar.errors import SirdarError, to_status
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, retriever_pb2

_SIMILARITIES = {
    Similarity.COSINE: collection_pb2.SIMILARITY_COSINE,
    Similarity.DOT: collection_pb2.SIMILARITY_DOT,
}
_STATES = {
    ShardState.OPENING: retriever_pb2.SHARD_STATE_OPENING,
    ShardState.READY: retriever_pb2.SHARD_STATE_READY,
    ShardState.FAILED: retriever_pb2.SHARD_STATE_FAILED,
}


class _Candidates(Protocol):
    def add(self, *, passage: int, score: float) -> object: ...


def collection(item: Collection, index_explanation: str) -> collection_pb2.Collection:
    return collection_pb2.Collection(
        namespace=item.namespace,
        name=item.name,
        description=item.description,
        labels=item.labels,
        rerank=collection_pb2.RerankSettings.FromString(item.rerank) if item.rerank else None,
        generation=generation(item.generation),
        created=_timestamp(item.created_ns),
        updated=_timestamp(item.updated_ns),
        documents=item.documents,
        passages=item.passages,
        lexical=collection_pb2.LexicalSettings(
            enabled=item.lexical.enabled, language=item.lexical.language
        ),
        schema=schema.messages(item.schema),
        index_explanation=index_explanation,
    )


def generation(item: Generation) -> collection_pb2.Generation:
    space = item.space
    return collection_pb2.Generation(
        number=item.number,
        space=common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name=space.model, revision=space.revision),
            dimensions=space.dimensions,
            fingerprint=space.fingerprint,
        ),
        shards=item.shards,
        index_kind=item.index_kind,
        similarity=_SIMILARITIES[item.similarity],
    )


def receipt(item: Receipt) -> document_pb2.WriteReceipt:
    return document_pb2.WriteReceipt(
        version=item.version,
        consistency_token=consistency_token(item.position),
        passages=item.passages,
        unchanged=item.unchanged,
        written=_timestamp(item.written_ns),
    )


def write_outcome(document_id: str, result: WriteResult) -> document_pb2.WriteOutcome:
    if isinstance(result, SirdarError):
        return document_pb2.WriteOutcome(document_id=document_id, error=to_status(result))
    return document_pb2.WriteOutcome(document_id=document_id, receipt=receipt(result))


def delete_outcome(document_id: str, result: Deletion | SirdarError) -> document_pb2.DeleteOutcome:
    if isinstance(result, SirdarError):
        return document_pb2.DeleteOutcome(document_id=document_id, error=to_status(result))
    return document_pb2.DeleteOutcome(
        document_id=document_id,
        existed=result.existed,
        consistency_token=consistency_token(result.position),
    )


def stored_document(item: StoredDocument) -> document_pb2.StoredDocument:
    document = document_pb2.Document(id=item.id, title=item.title, text=item.text)
    document.metadata.MergeFrom(metadata.holder(item.metadata).metadata)
    if item.expires_ns is not None:
        document.expires.CopyFrom(_timestamp(item.expires_ns))
    return document_pb2.StoredDocument(document=document, receipt=receipt(item.receipt))


def embedded_document(
    item: EmbeddedDocument, of: Generation
) -> retriever_pb2.RetrieverServiceGetDocumentResponse:
    return retriever_pb2.RetrieverServiceGetDocumentResponse(
        document=stored_document(item.document),
        passages=[
            retriever_pb2.StoredPassage(
                span=common_pb2.Span(start=passage.start, end=passage.end),
                vector=_vector(passage.vector),
            )
            for passage in item.passages
        ],
        fingerprint=of.space.fingerprint,
    )


def search_response(
    covered: CoveredAnswer,
    search: PassageSearch,
    item: Generation,
    vectors: Mapping[int, bytes],
) -> retriever_pb2.SearchPassagesResponse:
    response = retriever_pb2.SearchPassagesResponse(
        coverage=common_pb2.Coverage(
            shards_asked=covered.shards_asked,
            shards_answered=covered.shards_asked - len(covered.missing_shards),
            missing_shards=covered.missing_shards,
            pending_writes=covered.pending_writes,
        ),
        generation=generation(item),
        missing_lexical_shards=covered.lexical.missing_shards if covered.lexical else None,
        applied_seqs=covered.applied_seqs,
    )
    passages = {} if search.ids_only else covered.passages()
    dense: dict[int, Found] = {}
    if covered.dense is not None:
        dense = dict(zip(search.vector_places, covered.dense.found, strict=True))
    for place in range(len(search.words)):
        result = response.results.add()
        if search.ids_only:
            _fill_ids(result.dense_ids, dense.get(place))
            _fill_ids(result.lexical_ids, covered.lexical.found[place] if covered.lexical else None)
            continue
        lists = [(result.dense, dense.get(place))]
        if covered.lexical is not None:
            lists.append((result.lexical, covered.lexical.found[place]))
        _fill(result, lists, passages, vectors, item.shards)
    return response


def fetched_passages(
    ids: Sequence[int], found: dict[int, Passage], item: Generation
) -> retriever_pb2.FetchPassagesResponse:
    response = retriever_pb2.FetchPassagesResponse()
    for passage_id in ids:
        if passage_id in found:
            fetched = response.passages.add(passage_id=passage_id)
            _fill_passage(fetched.passage, found[passage_id], item.shards)
    return response


def shard_status(collection_: OpenCollection, shard: Shard) -> retriever_pb2.ShardStatus:
    view = shard.view
    dead = sum(part.dead for part in view.segments)
    return retriever_pb2.ShardStatus(
        namespace=collection_.namespace,
        collection=collection_.name,
        generation=collection_.generation.number,
        shard=shard.number,
        state=_STATES[shard.state],
        applied_seq=view.applied_seq,
        committed_seq=max(shard.committed_seq, view.applied_seq),
        vectors=sum(part.rows for part in view.segments) - dead,
        tombstones=dead,
        growing_segments=shard.growing_segments,
        sealed_segments=shard.sealed_segments,
        segment_bytes=shard.folder.segment_bytes,
        lexical_seq=shard.lexical.visible_seq if shard.lexical else None,
    )


def recall_estimate(item: CollectionRecall) -> retriever_pb2.RecallEstimate:
    return retriever_pb2.RecallEstimate(
        namespace=item.namespace,
        collection=item.collection,
        index_kind=item.index_kind,
        k=item.k,
        queries=item.estimate.queries,
        recall=item.estimate.recall,
        low=item.estimate.low,
        high=item.estimate.high,
    )


def _fill(
    result: retriever_pb2.PassageCandidates,
    lists: Sequence[tuple[_Candidates, Found | None]],
    passages: dict[int, Passage],
    vectors: Mapping[int, bytes],
    shards: int,
) -> None:
    """The candidates of one query, and each of their passages once."""
    places: dict[int, int] = {}
    for candidates, found in lists:
        if found is None:
            continue
        for score, passage_id in zip(found.scores, found.ids, strict=True):
            place = places.get(passage_id)
            if place is None:
                place = places[passage_id] = len(places)
                added = result.passages.add()
                _fill_passage(added, passages[passage_id], shards)
                # None where its document was replaced since it was found.
                if passage_id in vectors:
                    added.vector.CopyFrom(_vector(vectors[passage_id]))
            candidates.add(passage=place, score=score)


def _fill_ids(ids: retriever_pb2.PassageIds, found: Found | None) -> None:
    if found is not None:
        ids.passage_ids.extend(found.ids)
        ids.scores.extend(found.scores)


def _fill_passage(candidate: retriever_pb2.CandidatePassage, passage: Passage, shards: int) -> None:
    candidate.document_id = passage.document_id
    candidate.index = passage.position
    candidate.shard = shard_of(passage.document_id, shards)
    candidate.text = passage.text
    candidate.title = passage.title
    candidate.version = passage.version
    candidate.span.start = passage.start
    candidate.span.end = passage.end
    if passage.expires_ns is not None:
        candidate.expires.CopyFrom(_timestamp(passage.expires_ns))
    if passage.metadata:
        candidate.MergeFromString(passage.metadata)


def _vector(data: bytes) -> common_pb2.Vector:
    return common_pb2.Vector(data=data, dtype=common_pb2.DTYPE_FLOAT16, dimensions=len(data) // 2)


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
