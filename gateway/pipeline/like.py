"""More like this: a document of the collection as the query."""

from dataclasses import dataclass

from gateway.backends import EmbeddedQuery
from gateway.catalog import CollectionEntry
from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.tiers import Tiers
from gateway.search_watch import note_expiry
from gateway.vectors import mean_vector
from sirdar.errors import NotFound, from_status
from sirdar.v1 import common_pb2, document_pb2, retriever_pb2

# Of a text without a title, so much is searched for by words, and read by the cross-encoder.
_BEGINNING_CHARACTERS = 300
NO_SUCH_DOCUMENT = "DOCUMENT_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Subject:
    """The document in words, and as the mean direction of its passages."""

    text: str
    # None where it is not searched for by meaning.
    embedded: EmbeddedQuery | None


async def subject_of(
    tiers: Tiers,
    query: SearchQuery,
    entry: CollectionEntry,
    answer: SearchAnswer,
    *,
    by_meaning: bool,
) -> Subject:
    """Raises NotFound where there is no such document, or no more."""
    limit_seconds = tiers.budget.limit_seconds(
        common_pb2.STAGE_RETRIEVE, tiers.settings.retrieve_timeout_seconds
    )
    request = retriever_pb2.RetrieverServiceGetDocumentRequest(
        namespace=query.namespace,
        collection=entry.name,
        document_id=query.like,
        with_vectors=by_meaning,
    )
    with answer.timed(common_pb2.STAGE_EMBED):
        try:
            found = await tiers.retriever.call(
                tiers.retriever.rpc.GetDocument, request, limit_seconds
            )
        except NotFound as error:
            if error.reason != NO_SUCH_DOCUMENT:
                raise
            raise NotFound(
                f"like.document_id: {error.message}",
                reason=error.reason,
                metadata={"field": "like.document_id"},
            ) from error
        document = found.document.document
        if document.HasField("expires"):
            note_expiry(document.expires)
        embedded = await _direction(tiers, found, entry.space) if by_meaning else None
    return Subject(_in_words(document), embedded)


async def _direction(
    tiers: Tiers,
    found: retriever_pb2.RetrieverServiceGetDocumentResponse,
    space: common_pb2.EmbeddingSpace,
) -> EmbeddedQuery:
    vectors = [item.vector for item in found.passages if item.vector.data]
    if not vectors or not found.fingerprint:
        # A retriever that is older gives none.
        vectors = await _embedded(tiers, found.document.document, space)
        return EmbeddedQuery(mean_vector(vectors), space)
    own = common_pb2.EmbeddingSpace(
        model=space.model, dimensions=space.dimensions, fingerprint=found.fingerprint
    )
    return EmbeddedQuery(mean_vector(vectors), own)


async def _embedded(
    tiers: Tiers, document: document_pb2.Document, space: common_pb2.EmbeddingSpace
) -> list[common_pb2.Vector]:
    """The vectors of the document's passages, made anew."""
    (outcome,) = await tiers.embedder.embed_documents(
        [document], space.model, space.fingerprint, tiers.settings.embed_timeout_seconds
    )
    if outcome.HasField("error"):
        raise from_status(outcome.error)
    return [passage.vector for passage in outcome.embedded.passages]


def _in_words(document: document_pb2.Document) -> str:
    """Its title, or the beginning of its text, up to a space."""
    if document.title.strip():
        return document.title
    beginning = document.text[:_BEGINNING_CHARACTERS]
    if len(document.text) > _BEGINNING_CHARACTERS:
        beginning = beginning.rpartition(" ")[0] or beginning
    return beginning
