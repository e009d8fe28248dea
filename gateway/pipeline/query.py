"""A search as it was asked for, checked."""

from dataclasses import dataclass

from gateway.pipeline.fusion_plan import FusionPlan, SearchMode
from gateway.pipeline.stages import Collapse, Diversify, Graph, Group, Threshold, Unit
from sirdar.v1 import collection_pb2, common_pb2, filter_pb2, query_pb2


@dataclass(frozen=True, slots=True)
class SearchShape:
    """What a search without stages of its own says of them."""

    # None: as the server is set.
    mode: SearchMode | None
    fusion: FusionPlan
    # Passages to consider; None: as many as the results need.
    candidates: int | None
    exact: bool
    unit: Unit
    collapse: Collapse
    diversify: Diversify | None
    group: Group | None


@dataclass(frozen=True, slots=True)
class ReturnedFields:
    """What results carry; `metadata_fields` empty: every field."""

    text: bool = True
    title: bool = True
    metadata: bool = True
    metadata_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A validated search."""

    namespace: str
    # 1 to 16, all different.
    collections: tuple[str, ...]
    # Empty where it is more like a document, or where the stages bring their own.
    text: str
    # The document that is to be more like; empty: none.
    like: str
    top_k: int
    offset: int
    consistency: common_pb2.Consistency.ValueType
    consistency_tokens: tuple[str, ...]
    require_complete: bool
    # As it travels: the retriever knows the schema and checks it.
    filter: filter_pb2.Filter | None
    # Where it says nothing the collection does, and then the server.
    rerank: collection_pb2.RerankSettings
    shape: SearchShape
    # Instead of the shape.
    stages: Graph | None
    threshold: Threshold | None
    fields: ReturnedFields
    highlight: bool
    explain: bool
    cache: query_pb2.CacheUse.ValueType
    # Whether `collections` were asked for, be it one.
    several: bool

    @property
    def wanted(self) -> int:
        """How many results, or groups, the page ends with."""
        return self.offset + self.top_k
