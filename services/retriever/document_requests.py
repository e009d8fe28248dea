"""Documents and searches from the messages of requests, every field checked.

Raises InvalidArgument that names the field by its path.
"""

from collections.abc import Sequence

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from services.retriever import requests, vectors
from services.retriever.filters import requests as filter_requests
from services.retriever.lexical.query import MAX_QUERY_CHARACTERS
from services.retriever.metadata import MetadataRules
from services.retriever.passage_search import Consistency, PassageSearch
from services.retriever.store.records import DocumentWrite, FieldSchema, Generation, Position
from services.retriever.tokens import read_consistency_token
from sirdar.errors import FailedPrecondition, InvalidArgument, Unimplemented
from sirdar.v1 import common_pb2
from sirdar.v1.document_pb2 import Document
from sirdar.v1.retriever_pb2 import DocumentWrite as DocumentWriteMessage
from sirdar.v1.retriever_pb2 import (
    EmbeddedPassageWrite,
    PassageQuery,
    SearchPassagesRequest,
)

MAX_HASH_BYTES = 64
MAX_QUERIES = 256
MAX_CANDIDATES = 10_000
MAX_FETCHED = 10_000

# The year 2262: nanoseconds since the epoch must fit 64 bits.
_MAX_EXPIRY_SECONDS = 9_214_646_400
_NANOS = 1_000_000_000

_CONSISTENCIES = {
    common_pb2.CONSISTENCY_UNSPECIFIED: Consistency.EVENTUAL,
    common_pb2.CONSISTENCY_EVENTUAL: Consistency.EVENTUAL,
    common_pb2.CONSISTENCY_SESSION: Consistency.SESSION,
    common_pb2.CONSISTENCY_STRONG: Consistency.STRONG,
}


def check_fingerprint(fingerprint: str, generation: Generation) -> None:
    """Vectors of different spaces must not meet. Raises FailedPrecondition."""
    if fingerprint != generation.space.fingerprint:
        raise FailedPrecondition(
            f"the vectors are of space {fingerprint!r}, the collection of "
            f"{generation.space.fingerprint!r}; embed with its model {generation.space.model!r}",
            reason="SPACE_MISMATCH",
            metadata={"expected": generation.space.fingerprint, "got": fingerprint},
        )


def document_write(
    message: DocumentWriteMessage,
    field: str,
    generation: Generation,
    rules: MetadataRules,
    max_document_bytes: int,
) -> DocumentWrite:
    document = message.document
    text = _text(document, f"{field}.document", max_document_bytes)
    if len(message.content_hash) > MAX_HASH_BYTES:
        raise InvalidArgument.field(
            f"{field}.content_hash", f"must be at most {MAX_HASH_BYTES} bytes"
        )
    spans: tuple[tuple[int, int], ...] = ()
    stored = np.empty((0, generation.space.dimensions), np.float16)
    if message.keep_passages:
        if not message.content_hash:
            raise InvalidArgument.field(f"{field}.content_hash", "must be given with keep_passages")
        if message.passages:
            raise InvalidArgument.field(f"{field}.passages", "must be empty with keep_passages")
    else:
        spans = _spans(message.passages, f"{field}.passages", len(text))
        fields = [f"{field}.passages[{at}].vector" for at in range(len(spans))]
        array = vectors.decode([item.vector for item in message.passages], fields, generation)
        stored = vectors.as_stored(array, fields)
    return DocumentWrite(
        id=requests.document_id(document.id, f"{field}.document.id"),
        title=document.title,
        text=text,
        metadata=rules.stored(document.metadata, f"{field}.document.metadata"),
        content_hash=message.content_hash,
        spans=spans,
        vectors=stored,
        keep_passages=message.keep_passages,
        if_version=message.if_version if message.HasField("if_version") else None,
        expires_ns=_expires_ns(document, f"{field}.document.expires"),
    )


def passage_search(
    request: SearchPassagesRequest,
    generation: Generation,
    schema: Sequence[FieldSchema] = (),
    *,
    lexical: bool,
) -> PassageSearch:
    """`lexical`: the collection has a lexical index."""
    if not 1 <= len(request.queries) <= MAX_QUERIES:
        raise InvalidArgument.field(
            "queries", f"must be 1 to {MAX_QUERIES}, not {len(request.queries)}"
        )
    if not 1 <= request.candidates <= MAX_CANDIDATES:
        raise InvalidArgument.field(
            "candidates", f"must be 1 to {MAX_CANDIDATES}, not {request.candidates}"
        )
    words = _words(request.queries, lexical=lexical)
    places = tuple(at for at, query in enumerate(request.queries) if query.HasField("vector"))
    if places:
        check_fingerprint(request.fingerprint, generation)
    if request.consistency not in _CONSISTENCIES:
        raise InvalidArgument.field("consistency", "is not known")
    fields = [f"queries[{at}].vector" for at in places]
    given = [request.queries[at].vector for at in places]
    return PassageSearch(
        queries=vectors.decode(given, fields, generation),
        candidates=request.candidates,
        exact=request.exact,
        documents_with_text=_documents_with_text(request),
        shards=shards(request.shards, generation),
        consistency=_CONSISTENCIES[request.consistency],
        seen=_seen(request.consistency_tokens, generation),
        vector_places=places,
        words=words,
        ids_only=request.ids_only,
        condition=(
            filter_requests.condition(request.filter, schema)
            if request.HasField("filter")
            else None
        ),
    )


def passage_ids(ids: Sequence[int]) -> list[int]:
    """Each once, in their order."""
    if not 1 <= len(ids) <= MAX_FETCHED:
        raise InvalidArgument.field(
            "passage_ids", f"must be 1 to {MAX_FETCHED} items, not {len(ids)}"
        )
    return list(dict.fromkeys(ids))


def _words(queries: Sequence[PassageQuery], *, lexical: bool) -> tuple[str, ...]:
    """What each query asks the lexical index; empty: nothing."""
    for at, query in enumerate(queries):
        if not query.lexical:
            if not query.HasField("vector"):
                raise InvalidArgument.field(
                    f"queries[{at}].vector", "must be given, or words for `lexical`"
                )
        elif not lexical:
            raise Unimplemented(
                "the collection has no lexical index; ask for dense candidates",
                reason="LEXICAL_NOT_AVAILABLE",
            )
        elif len(query.lexical) > MAX_QUERY_CHARACTERS:
            raise InvalidArgument.field(
                f"queries[{at}].lexical",
                f"must be at most {MAX_QUERY_CHARACTERS} characters, not {len(query.lexical)}",
            )
    return tuple(query.lexical for query in queries)


def _documents_with_text(request: SearchPassagesRequest) -> int | None:
    if not request.HasField("documents_with_text"):
        return None
    if request.documents_with_text < 0:
        raise InvalidArgument.field("documents_with_text", "must not be negative")
    return request.documents_with_text


def _text(document: Document, field: str, max_bytes: int) -> str:
    if not document.text:
        raise InvalidArgument.field(f"{field}.text", "must not be empty")
    requests.no_nul(document.text, f"{field}.text")
    requests.no_nul(document.title, f"{field}.title")
    # No code point takes more than four bytes.
    if 4 * (len(document.text) + len(document.title)) > max_bytes:
        size = len(document.text.encode()) + len(document.title.encode())
        if size > max_bytes:
            raise InvalidArgument.field(
                f"{field}.text", f"and title must be at most {max_bytes} bytes, not {size}"
            )
    return document.text


def _spans(
    passages: Sequence[EmbeddedPassageWrite], field: str, characters: int
) -> tuple[tuple[int, int], ...]:
    if not passages:
        raise InvalidArgument.field(field, "must not be empty without keep_passages")
    spans = tuple((item.span.start, item.span.end) for item in passages)
    last = 0
    for at, (start, end) in enumerate(spans):
        if not 0 <= start < end <= characters:
            raise InvalidArgument.field(
                f"{field}[{at}].span",
                f"must be a part of the text's {characters} characters, not [{start}, {end})",
            )
        if start < last:
            raise InvalidArgument.field(f"{field}[{at}].span", "must not start before the last")
        last = start
    return spans


def _expires_ns(document: Document, field: str) -> int | None:
    """Nanoseconds since the epoch; a time that has passed is one as well."""
    if not document.HasField("expires"):
        return None
    return expiry_ns(document.expires, field)


def expiry_ns(time: Timestamp, field: str) -> int:
    if not (0 <= time.seconds < _MAX_EXPIRY_SECONDS and 0 <= time.nanos < _NANOS):
        raise InvalidArgument.field(field, "must be a time of the years 1970 to 2261")
    return time.seconds * _NANOS + time.nanos


def shards(numbers: Sequence[int], generation: Generation) -> tuple[int, ...]:
    """Each once, ascending."""
    for at, shard in enumerate(numbers):
        if not 0 <= shard < generation.shards:
            raise InvalidArgument.field(
                f"shards[{at}]", f"must be 0 to {generation.shards - 1}, not {shard}"
            )
    return tuple(sorted(set(numbers)))


def _seen(tokens: Sequence[str], generation: Generation) -> tuple[Position, ...]:
    positions = []
    for at, token in enumerate(tokens):
        field = f"consistency_tokens[{at}]"
        position = read_consistency_token(token, field)
        if position.generation_key != generation.key or position.shard >= generation.shards:
            raise InvalidArgument.field(
                field, "is of another collection", reason="BAD_CONSISTENCY_TOKEN"
            )
        positions.append(position)
    return tuple(positions)
