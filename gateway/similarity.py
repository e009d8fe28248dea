"""How much pairs of texts mean the same: by embeddings, or by the cross-encoder."""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.backends import Embedder, Reranker, call_for
from gateway.settings import GatewaySettings
from gateway.validation import namespace_of
from gateway.vectors import unit_rows
from sirdar.errors import (
    DeadlineExceeded,
    InvalidArgument,
    SirdarError,
    Unavailable,
    from_status,
    to_status,
)
from sirdar.v1 import common_pb2, embedder_pb2, query_pb2, reranker_pb2, search_pb2

MAX_PAIRS = 1_000
# Calls to the reranker at once, one a first text.
_IN_FLIGHT = 8

Outcome = float | SirdarError


class TextSimilarity:
    def __init__(
        self, settings: GatewaySettings, embedder: Embedder, reranker: Reranker | None
    ) -> None:
        self._settings = settings
        self._embedder = embedder
        self._reranker = reranker

    async def compute(
        self, request: search_pb2.ComputeSimilarityRequest
    ) -> search_pb2.ComputeSimilarityResponse:
        """Raises the errors of SearchService.ComputeSimilarity."""
        if not 1 <= len(request.pairs) <= MAX_PAIRS:
            raise InvalidArgument.field(
                "pairs", f"are {len(request.pairs)}; there must be 1 to {MAX_PAIRS}, split them"
            )
        if request.method not in query_pb2.SimilarityMethod.values():
            raise InvalidArgument.field(
                "method", f"{request.method} is not known; update the gateway or ask less"
            )
        call_for(namespace_of(request.namespace))
        by_cross_encoder = request.method == query_pb2.SIMILARITY_METHOD_CROSS_ENCODER
        outcomes: dict[int, Outcome] = {}
        pairs: dict[int, tuple[str, str]] = {}
        for at, pair in enumerate(request.pairs):
            try:
                pairs[at] = (self._text(at, "first", pair), self._text(at, "second", pair))
            except InvalidArgument as error:
                outcomes[at] = error
        response = search_pb2.ComputeSimilarityResponse()
        if by_cross_encoder:
            outcomes |= await self._by_cross_encoder(request, pairs)
        elif pairs:
            found, space = await self._by_embeddings(request.model, pairs)
            outcomes |= found
            response.space.CopyFrom(space)
        for at in range(len(request.pairs)):
            outcome = outcomes[at]
            if isinstance(outcome, SirdarError):
                response.outcomes.add(error=to_status(outcome))
            else:
                response.outcomes.add(similarity=outcome)
        return response

    def _text(self, at: int, name: str, pair: query_pb2.TextPair) -> str:
        text = pair.first if name == "first" else pair.second
        field = f"pairs[{at}].{name}"
        if not text.strip():
            raise InvalidArgument.field(field, "must not be empty")
        if "\0" in text:
            raise InvalidArgument.field(field, "must not contain NUL characters; remove them")
        limit = self._settings.max_document_bytes
        if len(text.encode()) > limit:
            raise InvalidArgument.field(field, f"has more than {limit} bytes; shorten it")
        return text

    async def _by_embeddings(
        self, model: common_pb2.ModelRef, pairs: Mapping[int, tuple[str, str]]
    ) -> tuple[dict[int, Outcome], common_pb2.EmbeddingSpace]:
        """The cosine of each pair; each text is embedded once."""
        texts = list(dict.fromkeys(text for pair in pairs.values() for text in pair))
        embeddings, space = await self._embedder.embed_in_space(
            texts,
            model,
            embedder_pb2.INPUT_TYPE_DOCUMENT,
            self._settings.index_timeout_seconds,
        )
        vectors: dict[str, common_pb2.Vector] = {}
        errors: dict[str, SirdarError] = {}
        for text, item in zip(texts, embeddings, strict=True):
            if item.HasField("vector"):
                vectors[text] = item.vector
            else:
                errors[text] = from_status(item.error)
        rows = unit_rows(list(vectors.values())) if vectors else ()
        known = dict(zip(vectors, rows, strict=True))
        outcomes: dict[int, Outcome] = {}
        for at, (first, second) in pairs.items():
            error = errors.get(first) or errors.get(second)
            if error is None:
                outcomes[at] = min(1.0, max(-1.0, float(known[first] @ known[second])))
            else:
                outcomes[at] = error
        return outcomes, space

    async def _by_cross_encoder(
        self,
        request: search_pb2.ComputeSimilarityRequest,
        pairs: Mapping[int, tuple[str, str]],
    ) -> dict[int, Outcome]:
        """The score of each pair, one call a first text."""
        if request.HasField("model"):
            raise InvalidArgument.field(
                "model", "is of embeddings, and the method is the cross-encoder; leave one out"
            )
        reranker = self._reranker
        if reranker is None:
            raise Unavailable("the gateway has no reranker; compare by embeddings")
        by_first: dict[str, list[int]] = {}
        for at, (first, _) in pairs.items():
            by_first.setdefault(first, []).append(at)
        free = asyncio.Semaphore(_IN_FLIGHT)

        async def score(first: str, places: Sequence[int]) -> Sequence[Outcome]:
            async with free:
                try:
                    return await self._scores(reranker, first, [pairs[at][1] for at in places])
                except SirdarError as error:
                    return [error] * len(places)

        found = await asyncio.gather(*(score(*item) for item in by_first.items()))
        outcomes = {
            at: outcome
            for places, scores in zip(by_first.values(), found, strict=True)
            for at, outcome in zip(places, scores, strict=True)
        }
        failures = [one for one in outcomes.values() if isinstance(one, Unavailable)]
        if failures and len(failures) == len(outcomes):
            raise failures[0]
        return outcomes

    async def _scores(
        self, reranker: Reranker, first: str, seconds: Sequence[str]
    ) -> list[Outcome]:
        request = reranker_pb2.RerankPassagesRequest(
            options=reranker_pb2.RerankOptions(query=first),
            passages=[
                reranker_pb2.RerankPassage(id=str(place), text=text)
                for place, text in enumerate(seconds)
            ],
        )
        response = await reranker.call(
            reranker.rpc.RerankPassages, request, self._settings.index_timeout_seconds
        )
        outcomes: list[Outcome] = [
            Unavailable("the reranker did not score it; retry") for _ in seconds
        ]
        for item in response.scores:
            if item.HasField("score"):
                outcomes[int(item.id)] = float(item.score)
            elif item.HasField("error"):
                outcomes[int(item.id)] = from_status(item.error)
            elif item.HasField("dropped"):
                outcomes[int(item.id)] = DeadlineExceeded(
                    "the reranker had no time for it; allow more, or ask less at once"
                )
        return outcomes
