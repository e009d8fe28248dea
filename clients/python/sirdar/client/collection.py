"""Collections and the embedding spaces that they live in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum


class Similarity(Enum):
    """How the vectors of a collection are compared."""

    COSINE = "cosine"
    DOT = "dot"


class FieldType(StrEnum):
    """What kind of value a metadata field has. Filters may name the fields of the schema."""

    KEYWORD = "keyword"
    KEYWORD_LIST = "keyword_list"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Model:
    """A Hugging Face name, `path:/folder` or `package:installed-package`, and a hub revision."""

    name: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """What a query is compared with; vectors compare only where `fingerprint` is equal."""

    model: Model
    dimensions: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One filling of a collection: its model, shards and index, fixed once it is created."""

    number: int
    space: EmbeddingSpace
    shards: int
    index_kind: str
    similarity: Similarity | None


@dataclass(frozen=True, slots=True)
class RerankSettings:
    """How the reranker's scores and the retriever's make the final order; see the contract.

    `depth` is how many of the best documents are reranked, 1 to 1,000. Both
    kinds of scores are standardised over them, weighted and added. None: in a
    search what the collection says, in a collection what the server says.
    """

    enabled: bool | None = None
    depth: int | None = None
    weight: float | None = None
    retriever_weight: float | None = None


@dataclass(frozen=True, slots=True)
class LexicalSettings:
    """The lexical index: whether there is one, and the language whose words it stems; `none`:
    words are only lower-cased."""

    enabled: bool
    language: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents with one embedding space.

    `schema` are the metadata fields that filters may name, in the order in
    which they were added; `index_explanation` says what indexes there are and why.
    """

    name: str
    namespace: str
    description: str
    generation: Generation
    created: datetime
    updated: datetime
    documents: int
    passages: int
    labels: Mapping[str, str] = field(default_factory=dict)
    rerank: RerankSettings = field(default_factory=RerankSettings)
    schema: Mapping[str, FieldType] = field(default_factory=dict)
    lexical: LexicalSettings = field(default_factory=lambda: LexicalSettings(False))
    index_explanation: str = ""
