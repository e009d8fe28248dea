"""The pipeline of one search: embed, retrieve, run the graph of stages, highlight."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from gateway.backends import EmbeddedQuery, Embedder, Reranker, Retriever, call_for
from gateway.catalog import Catalog, CollectionEntry
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.pipeline.embedding import QueryEmbedding
from gateway.pipeline.explanation import explain
from gateway.pipeline.fusion_plan import SearchMode
from gateway.pipeline.graph_run import GraphRun
from gateway.pipeline.highlights import highlight
from gateway.pipeline.like import NO_SUCH_DOCUMENT, Subject, subject_of
from gateway.pipeline.page import places_of, pool_of, results_at
from gateway.pipeline.plan import MAX_CANDIDATES, Plan, plan_search
from gateway.pipeline.prefetch import Target, prefetches
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.rerank_plan import server_rerank
from gateway.pipeline.retrieval import SKIPPABLE, Candidates, Retrieval
from gateway.pipeline.slow_stages import OptionalStages
from gateway.pipeline.stages import Lexical
from gateway.pipeline.tiers import Tiers
from gateway.settings import GatewaySettings
from gateway.stage_budget import StageBudget
from sirdar.errors import FailedPrecondition, NotFound, SirdarError, Unimplemented
from sirdar.v1 import collection_pb2, common_pb2

# Takes an answer that a better one will follow.
BeforeRerank = Callable[[SearchAnswer], None]

_WIDEN = 4


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


class SearchRun:
    """One search of collections that are known, by its plan."""

    def __init__(
        self, tiers: Tiers, query: SearchQuery, plan: Plan, text: str, subject: Subject | None
    ) -> None:
        self._tiers = tiers
        self._query = query
        self._plan = plan
        self._text = text
        self._subject = subject
        self._prefetches = prefetches(plan, text)
        self._later = _later_stages(query, plan)

    async def search(
        self,
        entries: Sequence[CollectionEntry],
        answer: SearchAnswer,
        before_rerank: BeforeRerank | None,
    ) -> None:
        answer.space = entries[0].space
        targets = await self._targets(entries, answer)
        retrieval = Retrieval(self._tiers, self._query, self._plan, self._prefetches, self._later)
        candidates, run = await self._retrieve(retrieval, targets, answer)
        retrieval.account(candidates, answer)
        after = [stage for stage in self._later if stage != common_pb2.STAGE_RERANK]
        slow = OptionalStages(self._tiers, self._plan, self._text, answer, after)
        if before_rerank is not None and run.reranks:
            early = replace(answer, degraded=list(answer.degraded))
            slow_early = OptionalStages(self._tiers, self._plan, self._text, early, after)
            self._fill(early, await run.without_rerank(slow_early))
            before_rerank(early)
        await run.finish(slow)
        self._fill(answer, run)
        if self._query.highlight and answer.results:
            await self._highlight(targets, answer)

    async def _targets(
        self, entries: Sequence[CollectionEntry], answer: SearchAnswer
    ) -> list[tuple[Target, CollectionEntry]]:
        """The collections with the queries as they are embedded for each."""
        own: dict[str, EmbeddedQuery] = {}
        if self._subject is not None and self._subject.embedded is not None:
            own[self._text] = self._subject.embedded
        texts = [
            text
            for text in dict.fromkeys(chain.from_iterable(one.dense for one in self._prefetches))
            if text not in own
        ]
        embedded: Sequence[Mapping[str, EmbeddedQuery]] = [{} for _ in entries]
        if texts:
            has_words = any(one.lexical for one in self._prefetches)
            embedding = QueryEmbedding(
                self._tiers,
                answer,
                has_words=has_words and not self._query.require_complete,
                later=(common_pb2.STAGE_RETRIEVE, *self._later),
            )
            embedded = await embedding.embed(texts, entries)
            first = embedded[0].get(texts[0])
            answer.space = first.space if first else answer.space
        return [
            (Target(entry.name, {**own, **known}, entry.lexical), entry)
            for entry, known in zip(entries, embedded, strict=True)
        ]

    async def _retrieve(
        self,
        retrieval: Retrieval,
        targets: Sequence[tuple[Target, CollectionEntry]],
        answer: SearchAnswer,
    ) -> tuple[Candidates, GraphRun]:
        """The candidates, and what the fast stages make of them.

        Passages of one document may crowd out others: unless the caller said
        how many to consider, four times as many are, until they are enough.
        """
        widening = 1
        candidates = await retrieval.fetch(targets, answer, widening)
        run = GraphRun(self._plan, candidates.pool, candidates.rankings)
        while candidates.more and (found := run.results_found()) < self._plan.wanted:
            widening *= _WIDEN
            try:
                candidates = await retrieval.fetch(targets, answer, widening, candidates)
            except SKIPPABLE as error:
                self._say_cut(answer, found, error)
                break
            run = GraphRun(self._plan, candidates.pool, candidates.rankings)
        if (found := run.results_found()) < self._plan.wanted:
            if candidates.cut:
                answer.degrade(
                    common_pb2.DEGRADED_REASON_CANDIDATES_CUT,
                    f"{MAX_CANDIDATES:,} candidates, the most there may be, have {found} of "
                    f"{self._plan.wanted} results",
                )
            for one in candidates.fetched:
                if one.error is not None:
                    self._say_cut(answer, found, one.error, f" of {one.target.name}")
        return candidates, run

    def _say_cut(self, answer: SearchAnswer, found: int, error: SirdarError, of: str = "") -> None:
        answer.degrade(
            common_pb2.DEGRADED_REASON_CANDIDATES_CUT,
            f"the candidates have {found} of {self._plan.wanted} results, and more{of} were not "
            f"to be had: {error.message}",
        )

    def _fill(self, answer: SearchAnswer, run: GraphRun) -> None:
        query = self._query
        places = places_of(run.answer, query.offset, query.wanted)
        answer.pool = pool_of(run.answer)
        answer.results = results_at(run, places, explain(run, places) if query.explain else {})

    async def _highlight(
        self, targets: Sequence[tuple[Target, CollectionEntry]], answer: SearchAnswer
    ) -> None:
        settings = self._tiers.settings
        try:
            limit_seconds = self._tiers.budget.limit_seconds(
                common_pb2.STAGE_HIGHLIGHT, settings.highlight_timeout_seconds
            )
            if limit_seconds <= 0:
                raise SirdarError("there was no time to choose the sentences to mark; allow more")
            with self._tiers.observed(common_pb2.STAGE_HIGHLIGHT, answer, optional=True):
                target, entry = targets[0]
                embedded = target.embedded.get(self._text)
                if embedded is None:
                    # A search by words needed no vector; sentences are chosen by meaning.
                    space = entry.space
                    embedded = await self._tiers.embedder.embed_query(
                        self._text, space.model, space.fingerprint, limit_seconds
                    )
                answer.results = await highlight(
                    self._tiers.embedder,
                    embedded,
                    answer.results,
                    max_sentences=settings.max_highlight_sentences,
                    limit_seconds=limit_seconds,
                )
        except SirdarError as error:
            answer.degrade(common_pb2.DEGRADED_REASON_HIGHLIGHT_SKIPPED, error.message)


def _later_stages(query: SearchQuery, plan: Plan) -> list[StageName]:
    """What comes after the candidates are there."""
    later: list[StageName] = []
    if plan.reranks:
        later.append(common_pb2.STAGE_RERANK)
    if query.highlight:
        later.append(common_pb2.STAGE_HIGHLIGHT)
    return later


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
