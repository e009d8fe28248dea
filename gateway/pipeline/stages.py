"""The stages of a search, and the graph that they make."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gateway.pipeline.fusion_plan import FusionMethod
from gateway.pipeline.rerank_plan import RerankPlan
from sirdar.v1 import collection_pb2, filter_pb2


class Unit(StrEnum):
    """What the results of a stage are."""

    PASSAGES = "passages"
    DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class Dense:
    """`query` is empty for the search's own, `candidates` None where the server chooses."""

    query: str = ""
    candidates: int | None = None
    # Besides the search's own; as it travels.
    filter: filter_pb2.Filter | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Lexical:
    query: str = ""
    candidates: int | None = None
    filter: filter_pb2.Filter | None = None


@dataclass(frozen=True, slots=True)
class Fuse:
    """One weight an input, not all 0."""

    method: FusionMethod
    weights: tuple[float, ...]
    rank_constant: float


@dataclass(frozen=True, slots=True)
class Collapse:
    """`mean_of` 1: a document is as good as its best passage."""

    mean_of: int = 1


@dataclass(frozen=True, slots=True)
class Rerank:
    """`plan` is None until it is known what the collection says beside `settings`."""

    settings: collection_pb2.RerankSettings | None = None
    query: str = ""
    plan: RerankPlan | None = None


@dataclass(frozen=True, slots=True)
class Diversify:
    """`relevance` is 0 to 1; `depth` None: as many as the answer's size suggests."""

    relevance: float
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    field: str
    limit: int


@dataclass(frozen=True, slots=True)
class Threshold:
    score: float | None = None
    similarity: float | None = None
    lexical_score: float | None = None
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """`limit` None: all that meet the threshold."""

    limit: int | None = None
    threshold: Threshold | None = None


Stage: TypeAlias = Dense | Lexical | Fuse | Collapse | Rerank | Diversify | Group | Cut


@dataclass(frozen=True, slots=True)
class Node:
    """A stage and the places, in the graph, of those whose results it takes."""

    name: str
    stage: Stage
    inputs: tuple[int, ...]
    unit: Unit
    # Where the request has it; empty where the gateway made it.
    path: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Each node stands behind those that it takes; the last is the answer."""

    nodes: tuple[Node, ...]

    @property
    def unit(self) -> Unit:
        """What the answer's results are."""
        return self.nodes[-1].unit
