"""What goes into the store and comes out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sirdar.errors import SirdarError


class Similarity(StrEnum):
    COSINE = "cosine"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Space:
    """The embedding space of a generation; vectors compare only within one `fingerprint`."""

    model: str
    revision: str
    dimensions: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One filling of a collection. `key` is unique in the store and never reused."""

    key: int
    number: int
    space: Space
    shards: int
    index_kind: str
    similarity: Similarity


@dataclass(frozen=True, slots=True)
class LexicalSettings:
    """The lexical index of a collection; `language` is one of `lexical.analyzers.LANGUAGES`."""

    enabled: bool = True
    language: str = "none"


class FieldType(StrEnum):
    KEYWORD = "keyword"
    KEYWORD_LIST = "keyword_list"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """A metadata field that filters may name. A document that has it with another type, as it
    was written before the field was in the schema, does not have it for filters."""

    name: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class CollectionDefinition:
    """A collection to create."""

    namespace: str
    name: str
    description: str
    labels: Mapping[str, str]
    # A serialised RerankSettings message, which the store does not read.
    rerank: bytes
    space: Space
    shards: int
    index_kind: str
    similarity: Similarity
    lexical: LexicalSettings = LexicalSettings()
    schema: tuple[FieldSchema, ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as the store has it; times in nanoseconds since the epoch."""

    namespace: str
    name: str
    description: str
    labels: Mapping[str, str]
    rerank: bytes
    generation: Generation
    created_ns: int
    updated_ns: int
    documents: int
    passages: int
    lexical: LexicalSettings = LexicalSettings()
    schema: tuple[FieldSchema, ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """Where a collection stands: `seqs` has the last committed sequence of each shard, and
    `updated_ns` is another after each change of its definition."""

    generation_key: int
    updated_ns: int
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CollectionUpdate:
    """None: left as it is. `schema` has all fields, old and new."""

    description: str | None = None
    labels: Mapping[str, str] | None = None
    rerank: bytes | None = None
    schema: tuple[FieldSchema, ...] | None = None


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document with its passages.

    `spans` are half-open ranges of code points, `vectors` is float16 of shape
    (len(spans), dimensions). `metadata` is opaque to the store. With
    `keep_passages` only the metadata is written, and only where the stored
    content hash is `content_hash`. `expires_ns` is since the epoch; None: never.
    """

    id: str
    title: str
    text: str
    metadata: bytes
    content_hash: bytes
    spans: tuple[tuple[int, int], ...]
    vectors: NDArray[np.float16]
    keep_passages: bool = False
    if_version: int | None = None
    expires_ns: int | None = None

    @property
    def size_bytes(self) -> int:
        """About what the write holds in memory while it waits."""
        return 512 + 2 * len(self.text) + len(self.metadata) + self.vectors.nbytes


@dataclass(frozen=True, slots=True)
class DocumentPatch:
    """A change of a document's metadata alone, read and written in one transaction.

    `change` makes the new metadata of the stored one; what it raises of
    SirdarError is the outcome of the patch. `size_bytes` is about what waits in
    memory with it.
    """

    id: str
    change: Callable[[bytes], bytes]
    size_bytes: int
    if_version: int | None = None
    changes_expiry: bool = False
    # With `changes_expiry`; None: never.
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a write stands in the log of its shard."""

    generation_key: int
    shard: int
    seq: int


@dataclass(frozen=True, slots=True)
class Receipt:
    position: Position
    version: int
    passages: int
    unchanged: bool
    written_ns: int


WriteResult = Receipt | SirdarError


@dataclass(frozen=True, slots=True)
class Deletion:
    existed: bool
    position: Position


@dataclass(frozen=True, slots=True)
class StoredDocument:
    id: str
    title: str
    text: str
    metadata: bytes
    receipt: Receipt
    expires_ns: int | None = None


class StoredPassage(NamedTuple):
    """A half-open range of code points, and the vector of little-endian float16 components."""

    start: int
    end: int
    vector: bytes


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document with its passages, in their order."""

    document: StoredDocument
    passages: tuple[StoredPassage, ...]


@dataclass(frozen=True, slots=True)
class KeyedDocument:
    """A version of a document as the columns of filters know it."""

    key: int
    id: str
    version: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """`more`: there are documents beyond the last one."""

    documents: tuple[StoredDocument, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class DocumentState:
    id: str
    version: int
    content_hash: bytes


class Passage(NamedTuple):
    """A passage with what an answer shows of its document.

    A tuple, because a search makes hundreds: a frozen dataclass takes 3.6 times as long.
    """

    document_id: str
    position: int
    start: int
    end: int
    text: str
    title: str
    metadata: bytes
    version: int
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a committed write means for the index of its shard.

    The document's live passages are `passage_ids` (int64) from now on, none
    after a deletion; `vectors` is float16 of shape (len(passage_ids),
    dimensions). `kept`: the passages are those of before, and not repeated.
    `metadata` is the document's from now on, empty after a deletion. `title`,
    `text` and `spans` are there when the change has just been written, and
    empty in one that is read back from the log.
    """

    position: Position
    document_key: int
    passage_ids: NDArray[np.int64]
    vectors: NDArray[np.float16]
    kept: bool = False
    metadata: bytes = b""
    title: str = ""
    text: str = ""
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def deleted(self) -> bool:
        return not self.kept and len(self.passage_ids) == 0


@dataclass(frozen=True, slots=True)
class TextChange:
    """What a committed write means for the words of its shard.

    The document's live passages are `passage_ids` from now on, none after a
    deletion; `spans` says where each is in `text`. `kept`: they are those of
    before, and not repeated.
    """

    seq: int
    document_key: int
    passage_ids: tuple[int, ...]
    title: str
    text: str
    spans: tuple[tuple[int, int], ...]
    kept: bool = False

    @property
    def size_bytes(self) -> int:
        """About what it holds in memory while it waits."""
        return 256 + 2 * len(self.text) + 64 * len(self.spans)
