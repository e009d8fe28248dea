"""What the calls of the client take beside what they need."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from sirdar.client.collection import FieldType, Model, RerankSettings, Similarity
from sirdar.client.fusion import Fusion, SearchMode
from sirdar.client.query import (
    CacheUse,
    Collapse,
    Diversity,
    Grouping,
    ReturnedFields,
    SearchUnit,
    Threshold,
)
from sirdar.client.results import Consistency
from sirdar.v1.filter_pb2 import Filter
from sirdar.v1.query_pb2 import QueryStage


class SearchOptions(TypedDict, total=False):
    """What `search` takes beside the query.

    `top_k` documents (1 to 1,000, default 10) out of `candidates` passages
    (default: the server's choice); `exact` compares with every vector;
    `consistency` with the `tokens` of receipts says how fresh the answer must
    be; `require_complete` refuses to answer for less than all shards; `rerank`
    overrides the collection's settings; `highlight` marks in the snippets the
    sentences that matter to the query; `filter` leaves the documents that meet
    it, as text (see `sirdar.filter_text`) or as the contract's message; `mode`
    and `fusion` say what is ranked, by default as the server is set.

    `offset` leaves out the best so many: the next page. `unit`, `collapse`,
    `group`, `diversify`, `threshold` and `fields` say what results are (see
    `sirdar.client.query`); `like` is the id of a document to find others like,
    instead of a query; `explain` tells how each result came to its place;
    `stages` are the stages of the search as messages of the contract.
    `cache` says whether the answer may be one that is kept, by default as the
    server is set.
    """

    top_k: int
    candidates: int
    exact: bool
    consistency: Consistency
    tokens: Sequence[str]
    require_complete: bool
    rerank: RerankSettings
    highlight: bool
    filter: Filter | str
    mode: SearchMode | str
    fusion: Fusion
    offset: int
    unit: SearchUnit | str
    collapse: Collapse
    group: Grouping
    diversify: Diversity
    threshold: Threshold
    fields: ReturnedFields
    like: str
    explain: bool
    stages: Sequence[QueryStage]
    cache: CacheUse | str


class CollectionOptions(TypedDict, total=False):
    """What `create_collection` takes beside the name.

    The model (default: the embedder's own), how many `shards`, the
    `index_kind` (default: `auto`; see the contract), the `similarity`, a
    `description`, `labels` and how searches `rerank`. `schema` are the metadata
    fields that filters may name, each with its type, such as `"integer"`.
    `lexical=False` does without the lexical index, `language` is that of its
    words (`none`, or an ISO 639-1 code; default: the server's).
    """

    model: Model
    shards: int
    index_kind: str
    similarity: Similarity
    description: str
    labels: Mapping[str, str]
    rerank: RerankSettings
    schema: Mapping[str, FieldType | str]
    lexical: bool
    language: str


class CollectionChanges(TypedDict, total=False):
    """What `update_collection` replaces; what is left out stays as it is.

    `rerank` is replaced whole: None in it means the server's setting. So is
    `schema`, but only to add fields.
    """

    description: str
    labels: Mapping[str, str]
    rerank: RerankSettings
    schema: Mapping[str, FieldType | str]
