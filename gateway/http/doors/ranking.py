"""Passages by their relevance to a query, for the doors."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.backends import Reranker
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument, NotFound, Unavailable, from_status
from sirdar.v1 import common_pb2, reranker_pb2

MAX_PASSAGES = 1_000


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage by its place in the request."""

    place: int
    score: float


class PassageRanker:
    """`reranker` None: every call is refused with Unavailable."""

    def __init__(self, reranker: Reranker | None, settings: GatewaySettings) -> None:
        self._reranker = reranker
        self._limit_seconds = settings.index_timeout_seconds

    def _tier(self) -> Reranker:
        if self._reranker is None:
            raise Unavailable(
                "this gateway has no reranker; set reranker_address", reason="NO_RERANKER"
            )
        return self._reranker

    async def model(self, name: str) -> common_pb2.ModelInfo:
        """The served cross-encoder of this name; empty: the default one. Raises NotFound."""
        models = await self._tier().models(self._limit_seconds)
        for model in models:
            if model.model.name == name or (not name and model.is_default):
                return model
        served = ", ".join(repr(model.model.name) for model in models)
        raise NotFound(
            f"no reranker serves the model {name!r}; served: {served}",
            reason="MODEL_NOT_FOUND",
            metadata={"model": name},
        )

    async def rank(
        self,
        query: str,
        passages: Sequence[str],
        model: common_pb2.ModelInfo,
        *,
        top_n: int | None = None,
        raw_scores: bool = False,
        field: str = "documents",
    ) -> list[RankedPassage]:
        """The best first, at most `top_n`; `field` is where the caller has the passages. Raises
        the error of the first passage that has one.

        Callers of these APIs expect every score: where there is no time for all, there is none.
        """
        tier = self._tier()
        if not 1 <= len(passages) <= MAX_PASSAGES:
            raise InvalidArgument.field(
                field, f"has {len(passages)} passages; 1 to {MAX_PASSAGES} go"
            )
        if not query.strip():
            raise InvalidArgument.field("query", "must not be empty")
        request = reranker_pb2.RerankPassagesRequest(
            options=reranker_pb2.RerankOptions(
                model=model.model, query=query, raw_scores=raw_scores, require_all=True
            ),
            passages=[
                reranker_pb2.RerankPassage(id=str(place), text=text)
                for place, text in enumerate(passages)
            ],
        )
        response = await tier.call(tier.rpc.RerankPassages, request, self._limit_seconds)
        for item in response.scores:
            if item.HasField("error"):
                error = from_status(item.error)
                description = error.fields[0].description if error.fields else error.message
                raise InvalidArgument.field(f"{field}[{item.id}]", description, reason=error.reason)
        ranked = [RankedPassage(int(item.id), item.score) for item in response.scores]
        ranked.sort(key=lambda passage: (-passage.score, passage.place))
        return ranked[:top_n]
