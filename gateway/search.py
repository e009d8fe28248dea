"""The pipeline of one search: embed, retrieve, collapse passages to documents."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.backends import EmbeddedQuery, Embedder, Retriever
from gateway.catalog import Catalog, CollectionEntry
from gateway.settings import GatewaySettings
from gateway.validation import MAX_CANDIDATES
from sirdar.errors import FailedPrecondition, NotFound, Unavailable
from sirdar.v1 import common_pb2, retriever_pb2

_CANDIDATES_A_RESULT = 3


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A validated search."""

    namespace: str
    collection: str
    text: str
    top_k: int
    # Passages to consider; None: as many as top_k documents need.
    candidates: int | None
    exact: bool
    consistency: common_pb2.Consistency.ValueType
    consistency_tokens: tuple[str, ...]
    require_complete: bool


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document by its best passage; the passage stays as it travels."""

    passage: retriever_pb2.CandidatePassage
    similarity: float
    matched_passages: int


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    documents: list[FoundDocument]
    space: common_pb2.EmbeddingSpace
    coverage: common_pb2.Coverage
    stage_seconds: dict[common_pb2.Stage.ValueType, float] = field(default_factory=dict)


class SearchPipeline:
    def __init__(
        self, settings: GatewaySettings, catalog: Catalog, embedder: Embedder, retriever: Retriever
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._embedder = embedder
        self._retriever = retriever

    async def search(self, query: SearchQuery) -> SearchAnswer:
        """Raises the errors of SearchService.Search."""
        started = time.perf_counter()
        try:
            entry = await self._catalog.get(query.namespace, query.collection)
            return await self._run(query, entry, started)
        except (FailedPrecondition, NotFound):
            # The collection was made anew since it was remembered, or is gone.
            self._catalog.forget(query.namespace, query.collection)
            entry = await self._catalog.get(query.namespace, query.collection)
            return await self._run(query, entry, started)

    async def _run(
        self, query: SearchQuery, entry: CollectionEntry, started: float
    ) -> SearchAnswer:
        seconds: dict[common_pb2.Stage.ValueType, float] = {}
        began = time.perf_counter()
        embedded = await self._embedder.embed_query(
            query.text,
            entry.space.model,
            entry.space.fingerprint,
            self._settings.embed_timeout_seconds,
        )
        seconds[common_pb2.STAGE_EMBED] = time.perf_counter() - began

        began = time.perf_counter()
        documents, coverage = await self._retrieve(query, embedded)
        seconds[common_pb2.STAGE_RETRIEVE] = time.perf_counter() - began
        if query.require_complete:
            _refuse_partial(coverage)
        seconds[common_pb2.STAGE_TOTAL] = time.perf_counter() - started
        return SearchAnswer(documents, embedded.space, coverage, seconds)

    async def _retrieve(
        self, query: SearchQuery, embedded: EmbeddedQuery
    ) -> tuple[list[FoundDocument], common_pb2.Coverage]:
        """The best documents.

        Passages of one document may crowd out others: unless the caller said
        how many to consider, four times as many are, until they are enough.
        """
        candidates = query.candidates or min(MAX_CANDIDATES, _CANDIDATES_A_RESULT * query.top_k)
        while True:
            response = await self._retriever.search(
                _passages_request(query, embedded, candidates),
                self._settings.retrieve_timeout_seconds,
            )
            found = response.results[0]
            documents = collapse(found, query.top_k)
            if (
                len(documents) == query.top_k
                or len(found.dense) < candidates
                or query.candidates is not None
                or candidates == MAX_CANDIDATES
            ):
                return documents, response.coverage
            candidates = min(MAX_CANDIDATES, 4 * candidates)


def collapse(results: retriever_pb2.PassageCandidates, top_k: int) -> list[FoundDocument]:
    """The best documents of a candidate list, each by its best passage, best first."""
    best: dict[str, tuple[retriever_pb2.CandidatePassage, float]] = {}
    matched: dict[str, int] = {}
    for candidate in results.dense:
        passage = results.passages[candidate.passage]
        identity = passage.document_id
        matched[identity] = matched.get(identity, 0) + 1
        best.setdefault(identity, (passage, candidate.score))
    return [
        FoundDocument(passage, similarity, matched[identity])
        for identity, (passage, similarity) in list(best.items())[:top_k]
    ]


def _passages_request(
    query: SearchQuery, embedded: EmbeddedQuery, candidates: int
) -> retriever_pb2.SearchPassagesRequest:
    return retriever_pb2.SearchPassagesRequest(
        namespace=query.namespace,
        collection=query.collection,
        queries=[retriever_pb2.PassageQuery(vector=embedded.vector)],
        candidates=candidates,
        exact=query.exact,
        fingerprint=embedded.space.fingerprint,
        consistency=query.consistency,
        consistency_tokens=query.consistency_tokens,
        documents_with_text=query.top_k,
    )


def _refuse_partial(coverage: common_pb2.Coverage) -> None:
    if coverage.shards_answered < coverage.shards_asked:
        missing = ", ".join(map(str, coverage.missing_shards))
        raise Unavailable(
            f"{coverage.shards_answered} of {coverage.shards_asked} shards answered "
            f"(missing: {missing}); retry, or allow partial answers",
            reason="INCOMPLETE",
        )


def degradations(coverage: common_pb2.Coverage) -> Iterable[common_pb2.Degradation]:
    """What the coverage means for the answer."""
    if coverage.shards_answered < coverage.shards_asked:
        missing = ", ".join(map(str, coverage.missing_shards))
        yield common_pb2.Degradation(
            reason=common_pb2.DEGRADED_REASON_SHARD_UNREACHABLE,
            detail=f"shards that did not answer: {missing}",
        )
