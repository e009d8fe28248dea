"""A batch of documents between the reader of a stream and the store."""

from dataclasses import dataclass, field
from hashlib import blake2b

from sirdar.errors import SirdarError
from sirdar.v1 import document_pb2, embedder_pb2


@dataclass(slots=True)
class PendingItem:
    """An item of a stream on its way; ends with a receipt or an error."""

    index: int
    document: document_pb2.Document
    if_version: int | None
    size_bytes: int
    duplicate: bool
    error: SirdarError | None = None
    receipt: document_pb2.WriteReceipt | None = None
    # None: the store's passages are kept.
    passages: embedder_pb2.EmbeddedPassages | None = None
    content_hash: bytes = b""

    @property
    def open(self) -> bool:
        """Neither written nor refused yet."""
        return self.error is None and self.receipt is None


@dataclass(frozen=True, slots=True)
class IndexBatch:
    """Items with different ids, in the order of the stream."""

    items: list[PendingItem] = field(default_factory=list)

    def open_items(self) -> list[PendingItem]:
        return [item for item in self.items if item.open]


def content_hash(document: document_pb2.Document) -> bytes:
    """16 bytes that change when what is embedded changes: the title or the text."""
    digest = blake2b(digest_size=16)
    digest.update(len(document.title).to_bytes(8, "little"))
    digest.update(document.title.encode())
    digest.update(document.text.encode())
    return digest.digest()
