"""Changes of metadata from the messages of requests, every field checked.

Raises InvalidArgument that names the field by its path.
"""

from services.retriever import metadata, requests
from services.retriever.document_requests import expiry_ns
from services.retriever.metadata import MetadataRules
from services.retriever.store.records import DocumentPatch
from sirdar.errors import InvalidArgument
from sirdar.v1.document_pb2 import DocumentUpdate


def document_patch(message: DocumentUpdate, field: str, rules: MetadataRules) -> DocumentPatch:
    _check(message, field, rules)

    def change(stored: bytes) -> bytes:
        holder = metadata.holder(stored)
        for key in message.remove:
            holder.metadata.pop(key, None)
        for key, value in message.set.items():
            holder.metadata[key].CopyFrom(value)
        return metadata.stored(holder.metadata, f"{field}.set")

    expires = message.WhichOneof("expiry") == "expires"
    return DocumentPatch(
        id=requests.document_id(message.document_id, f"{field}.document_id"),
        change=change,
        size_bytes=512 + message.ByteSize(),
        if_version=message.if_version if message.HasField("if_version") else None,
        changes_expiry=message.WhichOneof("expiry") is not None,
        expires_ns=expiry_ns(message.expires, f"{field}.expires") if expires else None,
    )


def _check(message: DocumentUpdate, field: str, rules: MetadataRules) -> None:
    if not (message.set or message.remove or message.WhichOneof("expiry")):
        raise InvalidArgument.field(field, "must set or remove something, or change the expiry")
    if message.WhichOneof("expiry") == "never_expires" and not message.never_expires:
        raise InvalidArgument.field(
            f"{field}.never_expires", "must be true where it is given; leave it out otherwise"
        )
    rules.check(message.set, f"{field}.set")
    if len(message.remove) > metadata.MAX_KEYS:
        raise InvalidArgument.field(
            f"{field}.remove", f"must be at most {metadata.MAX_KEYS} keys, not a document has more"
        )
    for at, key in enumerate(message.remove):
        metadata.check_key(key, f"{field}.remove[{at}]")
        if key in message.set:
            raise InvalidArgument.field(f"{field}.remove[{at}]", "must not be in `set` as well")
