"""Whether an answer makes sense: of the tiers nothing is believed that would break a search.

Each check gives what is wrong, None where nothing is. Fields that the version
before does not send may be missing.
"""

import math
import sys
from array import array
from itertools import chain
from typing import Protocol

from sirdar.v1 import common_pb2, embedder_pb2, reranker_pb2, retriever_pb2

_COMPONENT_BYTES = {common_pb2.DTYPE_FLOAT32: 4, common_pb2.DTYPE_FLOAT16: 2}


def texts_embedded(
    request: embedder_pb2.EmbedTextsRequest, response: embedder_pb2.EmbedTextsResponse
) -> str | None:
    if wrong := _as_many(len(response.embeddings), len(request.texts), "texts"):
        return wrong
    for embedding in response.embeddings:
        if not embedding.HasField("error") and (wrong := _vector(embedding.vector)):
            return wrong
    return _space(request.expected_fingerprint, response.space)


def documents_embedded(
    request: embedder_pb2.EmbedDocumentsRequest, response: embedder_pb2.EmbedDocumentsResponse
) -> str | None:
    if wrong := _as_many(len(response.documents), len(request.documents), "documents"):
        return wrong
    for document, embedding in zip(request.documents, response.documents, strict=True):
        if embedding.HasField("error"):
            continue
        if embedding.document_id != document.id:
            return f"passages of the document {embedding.document_id!r} for {document.id!r}"
        for passage in embedding.embedded.passages:
            if wrong := _size(passage.vector):
                return wrong
    return _space(request.expected_fingerprint, response.space)


def passages_scored(
    request: reranker_pb2.RerankPassagesRequest, response: reranker_pb2.RerankPassagesResponse
) -> str | None:
    asked = {passage.id for passage in request.passages}
    seen: set[str] = set()
    for item in response.scores:
        if item.id not in asked:
            return f"a score for a passage {item.id!r} that it was not given"
        if item.id in seen:
            return f"two scores for the passage {item.id!r}"
        seen.add(item.id)
        if item.WhichOneof("outcome") is None:
            return f"no score for the passage {item.id!r}"
        if not math.isfinite(item.score):
            return f"a score that is {item.score}"
    best_only = request.HasField("top_n") or request.options.HasField("top_n")
    return None if best_only else _as_many(len(seen), len(asked), "passages")


def passages_found(
    request: retriever_pb2.SearchPassagesRequest, response: retriever_pb2.SearchPassagesResponse
) -> str | None:
    if wrong := _as_many(len(response.results), len(request.queries), "queries"):
        return wrong
    for found in response.results:
        count = len(found.passages)
        for candidate in chain(found.dense, found.lexical):
            if not 0 <= candidate.passage < count:
                return f"a candidate that is passage {candidate.passage} of {count}"
            if not math.isfinite(candidate.score):
                return f"a candidate whose score is {candidate.score}"
        for ids in (found.dense_ids, found.lexical_ids):
            if len(ids.passage_ids) != len(ids.scores):
                return f"{len(ids.scores)} scores for {len(ids.passage_ids)} passages"
    return None


def passages_fetched(
    request: retriever_pb2.FetchPassagesRequest, response: retriever_pb2.FetchPassagesResponse
) -> str | None:
    asked = set(request.passage_ids)
    for passage in response.passages:
        if passage.passage_id not in asked:
            return f"the passage {passage.passage_id}, which was not asked for"
    return None


def collection_found(
    request: retriever_pb2.RetrieverServiceGetCollectionRequest,
    response: retriever_pb2.RetrieverServiceGetCollectionResponse,
) -> str | None:
    if response.collection.name != request.name:
        return f"the collection {response.collection.name!r} for {request.name!r}"
    return None


def document_found(
    request: retriever_pb2.RetrieverServiceGetDocumentRequest,
    response: retriever_pb2.RetrieverServiceGetDocumentResponse,
) -> str | None:
    found = response.document.document.id
    if found != request.document_id:
        return f"the document {found!r} for {request.document_id!r}"
    return None


def documents_written(
    request: retriever_pb2.WriteDocumentsRequest, response: retriever_pb2.WriteDocumentsResponse
) -> str | None:
    return _outcomes(response.outcomes, request.writes)


def documents_updated(
    request: retriever_pb2.RetrieverServiceUpdateDocumentsRequest,
    response: retriever_pb2.RetrieverServiceUpdateDocumentsResponse,
) -> str | None:
    return _outcomes(response.outcomes, request.updates)


def documents_deleted(
    request: retriever_pb2.RetrieverServiceDeleteDocumentsRequest,
    response: retriever_pb2.RetrieverServiceDeleteDocumentsResponse,
) -> str | None:
    return _outcomes(response.outcomes, request.document_ids)


class _Sized(Protocol):
    def __len__(self) -> int: ...


def _outcomes(outcomes: _Sized, items: _Sized) -> str | None:
    return _as_many(len(outcomes), len(items), "items")


def _as_many(answered: int, asked: int, what: str) -> str | None:
    return None if answered == asked else f"{answered} answers to {asked} {what}"


def _space(expected: str, space: common_pb2.EmbeddingSpace) -> str | None:
    if expected in ("", space.fingerprint):
        return None
    return f"vectors of the space {space.fingerprint!r} where {expected!r} was asked for"


def _size(vector: common_pb2.Vector) -> str | None:
    each = _COMPONENT_BYTES.get(vector.dtype)
    if each is None or vector.dimensions < 1 or len(vector.data) != each * vector.dimensions:
        return f"a vector of {vector.dimensions} dimensions in {len(vector.data)} bytes"
    return None


def _vector(vector: common_pb2.Vector) -> str | None:
    if wrong := _size(vector):
        return wrong
    if vector.dtype != common_pb2.DTYPE_FLOAT32:
        return None
    # 384 components in 3 microseconds. One that is not finite makes the sum so, too.
    components = array("f", vector.data)
    if sys.byteorder == "big":
        components.byteswap()
    return None if math.isfinite(sum(components)) else "a vector with NaN or infinity"
