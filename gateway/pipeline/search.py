"""The pipeline of one search: embed, retrieve, fuse, collapse to documents, rerank, highlight."""

from collections.abc import Callable, Sequence

from gateway.backends import EmbeddedQuery, Embedder, Reranker, Retriever, call_for
from gateway.catalog import Catalog, CollectionEntry
from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.documents import collapse
from gateway.pipeline.fusion import SearchMode, ranked
from gateway.pipeline.highlights import highlight
from gateway.pipeline.query import MAX_CANDIDATES, SearchQuery
from gateway.pipeline.rerank import RerankPlan, plan_rerank, rerank
from gateway.settings import GatewaySettings
from services.runtime.deadline import remaining_seconds
from sirdar.errors import FailedPrecondition, NotFound, SirdarError, Unavailable, Unimplemented
from sirdar.v1 import common_pb2, retriever_pb2

_CANDIDATES_A_RESULT = 3
# Of the time that the caller still gives.
_OPTIONAL_SHARE = 0.8


class SearchPipeline:
    def __init__(
        self,
        settings: GatewaySettings,
        catalog: Catalog,
        embedder: Embedder,
        retriever: Retriever,
        reranker: Reranker | None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._embedder = embedder
        self._retriever = retriever
        self._reranker = reranker

    async def search(
        self, query: SearchQuery, before_rerank: Callable[[SearchAnswer], None] | None = None
    ) -> SearchAnswer:
        """`before_rerank` is shown the answer as it is before it is reranked, if it is.

        Raises the errors of SearchService.Search.
        """
        call_for(query.namespace)
        answer = SearchAnswer()
        with answer.timed(common_pb2.STAGE_TOTAL):
            try:
                entry = await self._catalog.get(query.namespace, query.collection)
                await self._run(query, entry, answer, before_rerank)
            except (FailedPrecondition, NotFound, Unimplemented):
                # The collection was made anew since it was remembered, or is gone.
                self._catalog.forget(query.namespace, query.collection)
                entry = await self._catalog.get(query.namespace, query.collection)
                await self._run(query, entry, answer, before_rerank)
        return answer

    async def _run(
        self,
        query: SearchQuery,
        entry: CollectionEntry,
        answer: SearchAnswer,
        before_rerank: Callable[[SearchAnswer], None] | None,
    ) -> None:
        mode = self._mode(query, entry)
        plan = plan_rerank(query.rerank, entry.rerank, self._settings)
        answer.space = entry.space
        embedded: EmbeddedQuery | None = None
        if mode.by_meaning:
            with answer.timed(common_pb2.STAGE_EMBED):
                limit = self._settings.embed_timeout_seconds
                embedded = await self._embed(query, entry, limit)
            answer.space = embedded.space
        with answer.timed(common_pb2.STAGE_RETRIEVE):
            await self._retrieve(query, mode, embedded, max(query.top_k, plan.depth), answer)
        _check_coverage(query, answer)
        if plan.depth and answer.documents:
            if before_rerank is not None:
                before_rerank(answer.first(query.top_k))
            await self._rerank(query, plan, answer)
        del answer.documents[query.top_k :]
        if query.highlight and answer.documents:
            await self._highlight(query, entry, embedded, answer)

    def _mode(self, query: SearchQuery, entry: CollectionEntry) -> SearchMode:
        """The mode asked for, or the server's as far as the collection can.

        Raises Unimplemented.
        """
        if query.mode is None:
            return self._settings.search_mode if entry.lexical else SearchMode.DENSE
        if query.mode.by_words and not entry.lexical:
            raise Unimplemented(
                f"the collection {entry.name} has no lexical index; search it with mode dense, "
                "or make it anew with one",
                reason="LEXICAL_NOT_AVAILABLE",
            )
        return query.mode

    async def _embed(
        self, query: SearchQuery, entry: CollectionEntry, limit_seconds: float
    ) -> EmbeddedQuery:
        space = entry.space
        return await self._embedder.embed_query(
            query.text, space.model, space.fingerprint, limit_seconds
        )

    async def _retrieve(
        self,
        query: SearchQuery,
        mode: SearchMode,
        embedded: EmbeddedQuery | None,
        count: int,
        answer: SearchAnswer,
    ) -> None:
        """The best documents, `count` of them.

        Passages of one document may crowd out others: unless the caller said
        how many to consider, four times as many are, until they are enough.
        """
        candidates = query.candidates or min(MAX_CANDIDATES, _CANDIDATES_A_RESULT * count)
        while True:
            response = await self._retriever.search(
                _passages_request(query, mode, embedded, candidates, count),
                self._settings.retrieve_timeout_seconds,
            )
            found = response.results[0]
            answer.documents = collapse(found.passages, ranked(found, mode, query.fusion), count)
            answer.coverage = response.coverage
            if (
                len(answer.documents) >= query.top_k
                or max(len(found.dense), len(found.lexical)) < candidates
                or query.candidates is not None
                or candidates == MAX_CANDIDATES
            ):
                break
            candidates = min(MAX_CANDIDATES, 4 * candidates)
        _check_words(query, mode, response.missing_lexical_shards, answer)

    async def _rerank(self, query: SearchQuery, plan: RerankPlan, answer: SearchAnswer) -> None:
        """Reranks, or leaves the retriever's order to what could not be and says so."""
        reason = common_pb2.DEGRADED_REASON_RERANK_SKIPPED
        if self._reranker is None:
            answer.degrade(reason, "the gateway has no reranker")
            return
        try:
            with answer.timed(common_pb2.STAGE_RERANK):
                reranked = await rerank(
                    self._reranker,
                    plan,
                    query.text,
                    answer.documents,
                    _share_of_time(self._settings.rerank_timeout_seconds),
                )
        except SirdarError as error:
            answer.degrade(reason, error.message)
            return
        answer.documents = reranked.documents
        if reranked.dropped:
            answer.degrade(
                common_pb2.DEGRADED_REASON_RERANK_PARTIAL,
                f"the reranker had time for {reranked.candidates - reranked.dropped} of "
                f"{reranked.candidates} candidates; the others follow in the retriever's order",
            )

    async def _highlight(
        self,
        query: SearchQuery,
        entry: CollectionEntry,
        embedded: EmbeddedQuery | None,
        answer: SearchAnswer,
    ) -> None:
        limit_seconds = _share_of_time(self._settings.highlight_timeout_seconds)
        try:
            with answer.timed(common_pb2.STAGE_HIGHLIGHT):
                answer.documents = await highlight(
                    self._embedder,
                    # A search by words needed no vector; sentences are chosen by meaning.
                    embedded or await self._embed(query, entry, limit_seconds),
                    answer.documents,
                    max_sentences=self._settings.max_highlight_sentences,
                    limit_seconds=limit_seconds,
                )
        except SirdarError as error:
            answer.degrade(common_pb2.DEGRADED_REASON_HIGHLIGHT_SKIPPED, error.message)


def _passages_request(
    query: SearchQuery,
    mode: SearchMode,
    embedded: EmbeddedQuery | None,
    candidates: int,
    documents: int,
) -> retriever_pb2.SearchPassagesRequest:
    return retriever_pb2.SearchPassagesRequest(
        namespace=query.namespace,
        collection=query.collection,
        queries=[
            retriever_pb2.PassageQuery(
                vector=embedded.vector if embedded else None,
                lexical=query.text if mode.by_words else "",
            )
        ],
        candidates=candidates,
        exact=query.exact,
        fingerprint=embedded.space.fingerprint if embedded else "",
        consistency=query.consistency,
        consistency_tokens=query.consistency_tokens,
        # Which of two lists' documents will be the best is not known before they are fused.
        documents_with_text=candidates if mode is SearchMode.HYBRID else documents,
        filter=query.filter,
    )


def _share_of_time(limit_seconds: float) -> float:
    """What a stage that can be done without may take: it leaves the rest its time."""
    remaining = remaining_seconds()
    return limit_seconds if remaining is None else min(limit_seconds, _OPTIONAL_SHARE * remaining)


def _check_coverage(query: SearchQuery, answer: SearchAnswer) -> None:
    """A partial answer is refused or says so."""
    coverage = answer.coverage
    if coverage.shards_answered == coverage.shards_asked:
        return
    missing = ", ".join(map(str, coverage.missing_shards))
    if query.require_complete:
        raise Unavailable(
            f"{coverage.shards_answered} of {coverage.shards_asked} shards answered "
            f"(missing: {missing}); retry, or allow partial answers",
            reason="INCOMPLETE",
        )
    answer.degrade(
        common_pb2.DEGRADED_REASON_SHARD_UNREACHABLE, f"shards that did not answer: {missing}"
    )


def _check_words(
    query: SearchQuery, mode: SearchMode, missing: Sequence[int], answer: SearchAnswer
) -> None:
    """Shards whose words were not searched: an answer by words alone does not speak for them."""
    if not missing:
        return
    shards = ", ".join(map(str, missing))
    if query.require_complete and not mode.by_meaning:
        raise Unavailable(
            f"the lexical indexes of these shards did not answer: {shards}; retry, or allow "
            "partial answers",
            reason="INCOMPLETE",
        )
    answer.degrade(
        common_pb2.DEGRADED_REASON_LEXICAL_SKIPPED,
        f"shards whose lexical index did not answer: {shards}",
    )
