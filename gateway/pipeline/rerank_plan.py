"""How one search is reranked: what the request says, else the collection, else the server."""

import math
from dataclasses import dataclass

from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2

MAX_DEPTH = 1_000


@dataclass(frozen=True, slots=True)
class RerankPlan:
    """`depth` 0: not at all."""

    depth: int
    weight: float
    retriever_weight: float


NO_RERANK = RerankPlan(0, 0.0, 1.0)


def check_rerank(settings: collection_pb2.RerankSettings, field: str) -> None:
    """Raises InvalidArgument that names the field by its path."""
    if settings.HasField("depth") and not 1 <= settings.depth <= MAX_DEPTH:
        raise InvalidArgument.field(
            f"{field}.depth", f"is {settings.depth}; it must be 1 to {MAX_DEPTH}"
        )
    for name in ("weight", "retriever_weight"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise InvalidArgument.field(f"{field}.{name}", f"is {value}; it must be 0 or more")
    both = settings.HasField("weight") and settings.HasField("retriever_weight")
    if both and settings.weight == settings.retriever_weight == 0:
        raise InvalidArgument.field(f"{field}.weight", "and retriever_weight must not both be 0")


def server_rerank(settings: GatewaySettings) -> collection_pb2.RerankSettings:
    return collection_pb2.RerankSettings(
        enabled=settings.rerank_enabled and settings.reranker_address is not None,
        depth=settings.rerank_depth,
        weight=settings.rerank_weight,
        retriever_weight=settings.rerank_retriever_weight,
    )


def plan_rerank(
    request: collection_pb2.RerankSettings,
    collection: collection_pb2.RerankSettings,
    server: collection_pb2.RerankSettings,
    field: str = "rerank",
) -> RerankPlan:
    """Raises InvalidArgument when together they leave nothing to order by."""
    merged = collection_pb2.RerankSettings()
    merged.MergeFrom(server)
    merged.MergeFrom(collection)
    merged.MergeFrom(request)
    if not merged.enabled:
        return NO_RERANK
    if merged.weight == merged.retriever_weight == 0:
        raise InvalidArgument.field(
            f"{field}.weight", "and retriever_weight are both 0, with what the collection says"
        )
    return RerankPlan(merged.depth, merged.weight, merged.retriever_weight)
