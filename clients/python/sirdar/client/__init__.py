"""The typed client of Sirdar, for code that blocks and for asyncio.

    from sirdar.client import Client, Document

    with Client("127.0.0.1:7700") as client:
        client.create_collection("notes")
        for outcome in client.index("notes", [Document(id="1", text="Ships sail at dawn.")]):
            print(outcome)
        for result in client.search("notes", "when do we leave?"):
            print(result.score, result.snippet.text)

`AsyncClient` has the same methods to await and to iterate over with `async for`.
"""

from sirdar.client.aio import AsyncClient
from sirdar.client.channel import Tls
from sirdar.client.collection import (
    Collection,
    EmbeddingSpace,
    FieldType,
    Generation,
    LexicalSettings,
    Model,
    RerankSettings,
    Similarity,
)
from sirdar.client.documents import (
    ConditionalDocument,
    DeleteOutcome,
    Document,
    DocumentUpdate,
    FilterDeletion,
    IndexOutcome,
    MetadataValue,
    StoredDocument,
    UpdateOutcome,
    WriteReceipt,
)
from sirdar.client.fusion import Fusion, FusionMethod, SearchMode
from sirdar.client.health import Health
from sirdar.client.query import (
    CacheUse,
    Collapse,
    CollapseMethod,
    Diversity,
    Grouping,
    ReturnedFields,
    SearchUnit,
    Threshold,
)
from sirdar.client.results import (
    CacheOutcome,
    CollectionCoverage,
    Consistency,
    Coverage,
    Degradation,
    SearchResult,
    SearchResults,
    Snippet,
    Span,
    StageScore,
    StageTiming,
)
from sirdar.client.searches import Search, SearchOutcome, SimilarityMethod, SimilarityOutcome
from sirdar.client.sync import Client
from sirdar.v1.filter_pb2 import Filter
from sirdar.v1.query_pb2 import QueryStage

__all__ = [
    "AsyncClient",
    "CacheOutcome",
    "CacheUse",
    "Client",
    "Collapse",
    "CollapseMethod",
    "Collection",
    "CollectionCoverage",
    "ConditionalDocument",
    "Consistency",
    "Coverage",
    "Degradation",
    "DeleteOutcome",
    "Diversity",
    "Document",
    "DocumentUpdate",
    "EmbeddingSpace",
    "FieldType",
    "Filter",
    "FilterDeletion",
    "Fusion",
    "FusionMethod",
    "Generation",
    "Grouping",
    "Health",
    "IndexOutcome",
    "LexicalSettings",
    "MetadataValue",
    "Model",
    "QueryStage",
    "RerankSettings",
    "ReturnedFields",
    "Search",
    "SearchMode",
    "SearchOutcome",
    "SearchResult",
    "SearchResults",
    "SearchUnit",
    "Similarity",
    "SimilarityMethod",
    "SimilarityOutcome",
    "Snippet",
    "Span",
    "StageScore",
    "StageTiming",
    "StoredDocument",
    "Threshold",
    "Tls",
    "UpdateOutcome",
    "WriteReceipt",
]
