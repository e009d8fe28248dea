"""The pipeline of searches: what is known of their collections, their plan, its run."""

import asyncio
from collections.abc import Sequence

from gateway.backends import Embedder, Reranker, Retriever, call_for
from gateway.catalog import Catalog, CollectionEntry
from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.fusion_plan import SearchMode
from gateway.pipeline.like import NO_SUCH_DOCUMENT, Subject, subject_of
from gateway.pipeline.plan import plan_search
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.rerank_plan import server_rerank
from gateway.pipeline.retrieval import SKIPPABLE
from gateway.pipeline.search_run import BeforeRerank, SearchRun
from gateway.pipeline.stages import Lexical
from gateway.pipeline.tiers import Tiers
from gateway.settings import GatewaySettings
from gateway.stage_budget import StageBudget
from sirdar.errors import FailedPrecondition, NotFound, SirdarError, Unimplemented
from sirdar.v1 import collection_pb2, common_pb2


class SearchPipeline:
    def __init__(
        self,
        settings: GatewaySettings,
        catalog: Catalog,
        embedder: Embedder,
        retriever: Retriever,
        reranker: Reranker | None,
        budget: StageBudget | None = None,
    ) -> None:
        self._catalog = catalog
        self._tiers = Tiers(settings, embedder, retriever, reranker, budget or StageBudget())
        self._server_rerank = server_rerank(settings)

    async def search(
        self, query: SearchQuery, before_rerank: BeforeRerank | None = None
    ) -> SearchAnswer:
        """`before_rerank` is given the answer in the retriever's order, once, where the search
        has still something to rerank.

        Raises the errors of SearchService.Search.
        """
        call_for(query.namespace)
        answer = SearchAnswer(fields=query.fields)
        with answer.timed(common_pb2.STAGE_TOTAL):
            try:
                await self._search(query, answer, before_rerank)
            except (FailedPrecondition, NotFound, Unimplemented) as error:
                if error.reason == NO_SUCH_DOCUMENT:
                    # The collection is as it was.
                    raise
                # A collection was made anew since it was remembered, or is gone.
                for name in query.collections:
                    self._catalog.forget(query.namespace, name)
                answer.degraded.clear()
                answer.collections.clear()
                await self._search(query, answer, before_rerank)
        return answer

    async def _search(
        self, query: SearchQuery, answer: SearchAnswer, before_rerank: BeforeRerank | None
    ) -> None:
        entries = await self._entries(query, answer)
        mode = self._mode(query, entries)
        plan = plan_search(query, mode, _rerank_of(entries), self._server_rerank)
        subject: Subject | None = None
        if query.like:
            subject = await subject_of(
                self._tiers, query, entries[0], answer, by_meaning=plan.by_meaning
            )
        text = subject.text if subject else query.text
        run = SearchRun(self._tiers, query, plan, text, subject)
        await run.search(entries, answer, before_rerank)

    async def _entries(self, query: SearchQuery, answer: SearchAnswer) -> list[CollectionEntry]:
        """What is known of the collections; of several, of those that it can be known of."""
        if not query.several:
            return [await self._catalog.get(query.namespace, query.collections[0])]
        outcomes = await asyncio.gather(
            *(self._catalog.get(query.namespace, name) for name in query.collections),
            return_exceptions=True,
        )
        entries: list[CollectionEntry] = []
        skipped: list[tuple[str, SirdarError]] = []
        for name, outcome in zip(query.collections, outcomes, strict=True):
            if isinstance(outcome, CollectionEntry):
                entries.append(outcome)
            elif isinstance(outcome, SKIPPABLE) and not query.require_complete:
                skipped.append((name, outcome))
            else:
                raise outcome
        if not entries:
            raise skipped[0][1]
        for name, error in skipped:
            answer.degrade(
                common_pb2.DEGRADED_REASON_COLLECTION_SKIPPED, f"{name}: {error.message}"
            )
        return entries

    def _mode(self, query: SearchQuery, entries: Sequence[CollectionEntry]) -> SearchMode:
        """The mode asked for, or the server's as far as the collections can.

        Raises Unimplemented.
        """
        asked = query.shape.mode
        if query.stages is not None:
            by_words = any(isinstance(node.stage, Lexical) for node in query.stages.nodes)
        else:
            by_words = asked is not None and asked.by_words
        if by_words:
            for entry in entries:
                _need_words(entry)
        if asked is not None:
            return asked
        has_words = any(entry.lexical for entry in entries)
        return self._tiers.settings.search_mode if has_words else SearchMode.DENSE


def _rerank_of(entries: Sequence[CollectionEntry]) -> collection_pb2.RerankSettings:
    """What the collections say of reranking; nothing where they do not agree."""
    first, *others = entries
    if all(entry.rerank == first.rerank for entry in others):
        return first.rerank
    return collection_pb2.RerankSettings()


def _need_words(entry: CollectionEntry) -> None:
    if not entry.lexical:
        raise Unimplemented(
            f"the collection {entry.name} has no lexical index; search it with mode dense, "
            "or make it anew with one",
            reason="LEXICAL_NOT_AVAILABLE",
        )
