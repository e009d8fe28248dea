"""What is checked of a request before anything is done for it."""

from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import document_pb2

DEFAULT_NAMESPACE = "default"
MAX_ID_BYTES = 512


def namespace_of(namespace: str) -> str:
    return namespace or DEFAULT_NAMESPACE


def require_collection(collection: str, field: str = "collection") -> str:
    if not collection:
        raise InvalidArgument.field(field, "must name a collection")
    return collection


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
