"""What is checked of a request before anything is done for it."""

from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2, document_pb2, search_pb2

DEFAULT_NAMESPACE = "default"
DEFAULT_TOP_K = 10
MAX_TOP_K = 1_000
MAX_CANDIDATES = 10_000
MAX_ID_BYTES = 512


def namespace_of(namespace: str) -> str:
    return namespace or DEFAULT_NAMESPACE


def require_collection(collection: str, field: str = "collection") -> str:
    if not collection:
        raise InvalidArgument.field(field, "must name a collection")
    return collection


def check_query(text: str, settings: GatewaySettings) -> str:
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


def check_top_k(request: search_pb2.SearchRequest) -> int:
    top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidArgument.field("top_k", f"is {top_k}; it must be 1 to {MAX_TOP_K}")
    return top_k


def check_candidates(request: search_pb2.SearchRequest, top_k: int) -> int | None:
    """None: as many as top_k documents need."""
    if not request.HasField("candidates"):
        return None
    if not top_k <= request.candidates <= MAX_CANDIDATES:
        raise InvalidArgument.field(
            "candidates",
            f"is {request.candidates}; it must be top_k ({top_k}) to {MAX_CANDIDATES}",
        )
    return request.candidates


def check_consistency(request: search_pb2.SearchRequest) -> common_pb2.Consistency.ValueType:
    if request.consistency == common_pb2.CONSISTENCY_SESSION and not request.consistency_tokens:
        raise InvalidArgument.field(
            "consistency_tokens", "must hold the tokens of the session's writes"
        )
    return request.consistency


def check_document(document: document_pb2.Document, settings: GatewaySettings) -> None:
    """Raises InvalidArgument for what is not worth embedding."""
    check_document_id(document.id, "document.id")
    if not document.text.strip():
        raise InvalidArgument.field("document.text", "must not be empty")
    if "\0" in document.text or "\0" in document.title:
        field = "document.text" if "\0" in document.text else "document.title"
        raise InvalidArgument.field(field, "must not contain NUL characters; remove them")
    size = len(document.text.encode())
    if size > settings.max_document_bytes:
        raise InvalidArgument.field(
            "document.text",
            f"has {size} bytes; at most {settings.max_document_bytes} are allowed, split it",
        )


def check_document_id(identity: str, field: str) -> str:
    size = len(identity.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidArgument.field(
            field, f"has {size} bytes; an id has 1 to {MAX_ID_BYTES} bytes of UTF-8"
        )
    if "\0" in identity:
        raise InvalidArgument.field(field, "must not contain NUL characters; remove them")
    return identity
