"""Client of the reranker."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.backends import sense
from gateway.backends.endpoint import Endpoint
from gateway.backends.tier import Tier
from gateway.search_watch import note_reranked
from services.runtime.channel import ClientTls
from sirdar.errors import DeadlineExceeded, Unavailable
from sirdar.v1 import common_pb2, reranker_pb2, reranker_pb2_grpc


@dataclass(frozen=True, slots=True)
class Logits:
    """What the reranker says of passages, by their places; of those in neither it refused."""

    known: dict[int, float]
    dropped: frozenset[int]
    """Those that it had no time for."""


class Reranker(Tier):
    """Scoring has no effects: all of it may run twice. `rpc` are its methods, for `call`."""

    def __init__(self, address: str, max_message_bytes: int, tls: ClientTls | None) -> None:
        endpoint = Endpoint("reranker", address, max_message_bytes, tls, watched=True)
        self.rpc: reranker_pb2_grpc.RerankerServiceAsyncStub = (
            reranker_pb2_grpc.RerankerServiceStub(endpoint.channel)  # type: ignore[assignment]
        )
        self.model = b""
        """That it scores with, as it said last; a serialized ModelRef, empty before it did."""
        super().__init__(endpoint, {self.rpc.RerankPassages: sense.passages_scored})

    async def logits(self, query: str, passages: Sequence[str], limit_seconds: float) -> Logits:
        """Of passages, the most promising first: the last are dropped when time is short.

        Raises Unavailable when it refuses all, DeadlineExceeded when it had time for fewer
        than two: they have no order.
        """
        request = reranker_pb2.RerankPassagesRequest(
            # However many passages: a user waits for the search.
            options=reranker_pb2.RerankOptions(
                query=query, raw_scores=True, priority=common_pb2.PRIORITY_INTERACTIVE
            ),
            passages=[
                reranker_pb2.RerankPassage(id=str(place), text=text)
                for place, text in enumerate(passages)
            ],
        )
        response = await self.call(self.rpc.RerankPassages, request, limit_seconds)
        self.model = response.model.SerializeToString(deterministic=True)
        note_reranked(self.model)
        known = {int(item.id): item.score for item in response.scores if item.HasField("score")}
        dropped = frozenset(int(item.id) for item in response.scores if item.HasField("dropped"))
        if dropped and len(known) < 2:
            raise DeadlineExceeded(
                f"the reranker had time for {len(known)} of {len(passages)} candidates",
                reason="RERANKER_TIMEOUT",
            )
        if not known:
            raise Unavailable(
                f"the reranker scored none of {len(passages)} passages", reason="NOTHING_SCORED"
            )
        return Logits(known, dropped)

    async def models(self, limit_seconds: float) -> list[common_pb2.ModelInfo]:
        request = reranker_pb2.RerankerServiceListModelsRequest()
        models = list((await self.call(self.rpc.ListModels, request, limit_seconds)).models)
        for info in models:
            if info.is_default:
                self.model = info.model.SerializeToString(deterministic=True)
        return models
