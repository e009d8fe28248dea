"""Documents and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from sirdar.errors import SirdarError

MetadataValue: TypeAlias = str | Sequence[str] | int | float | bool | datetime
"""A typed value: `True`, `1` and `1.0` stay what they are. Integers have 64 bits, times a zone."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its owner writes it.

    `id` is unique in the collection, 1 to 512 bytes of UTF-8. `title` is
    optional and embedded in front of every passage. `text` must not be empty.
    `expires`, which has a zone, is when it is deleted by itself; None: never.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConditionalDocument:
    """A document that is written only if the stored version is `if_version`; 0: if there is none.

    Refused with Aborted otherwise. When the connection breaks before the
    answer, the outcome is unknown and said to be: it is never written twice.
    """

    document: Document
    if_version: int


@dataclass(frozen=True, slots=True)
class DocumentUpdate:
    """A change of metadata alone: nothing is embedded again.

    `set` adds or replaces fields, `remove` takes them away; the others stay.
    With `if_version` it is refused with Aborted where the stored version is
    another. `expires` is a new time of deletion; `never_expires` takes it away.
    """

    document_id: str
    set: Mapping[str, MetadataValue] = field(default_factory=dict)
    remove: Sequence[str] = ()
    if_version: int | None = None
    expires: datetime | None = None
    never_expires: bool = False


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What a write did. `unchanged`: title and text were stored already, nothing was embedded.

    `consistency_token` given to a search makes it see this write.
    """

    version: int
    consistency_token: str
    passages: int
    unchanged: bool
    written: datetime


@dataclass(frozen=True, slots=True)
class StoredDocument:
    document: Document
    receipt: WriteReceipt


@dataclass(frozen=True, slots=True)
class IndexOutcome:
    """The answer to one document: a receipt once it is durable, or the error that refused it.

    `index` is its position in what was given to `index()`, from 0.
    `duplicate`: it replaced an earlier document of the same stream.
    """

    index: int
    document_id: str
    receipt: WriteReceipt | None = None
    error: SirdarError | None = None
    duplicate: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """The answer to one update: a receipt once it is durable, or the error that refused it."""

    document_id: str
    receipt: WriteReceipt | None = None
    error: SirdarError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """`existed` is False where there was no such document; `error` is set where the id is bad."""

    document_id: str
    existed: bool
    consistency_token: str = ""
    error: SirdarError | None = None


@dataclass(frozen=True, slots=True)
class FilterDeletion:
    """How many documents met the filter; `consistency_tokens`: of the shards written to."""

    documents: int
    consistency_tokens: tuple[str, ...] = ()
