"""One search of collections that are known: retrieve, run the graph of stages, highlight."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from gateway.backends import EmbeddedQuery
from gateway.catalog import CollectionEntry
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.pipeline.embedding import QueryEmbedding
from gateway.pipeline.explanation import explain
from gateway.pipeline.graph_run import GraphRun
from gateway.pipeline.highlights import highlight
from gateway.pipeline.like import Subject
from gateway.pipeline.page import places_of, pool_of, results_at
from gateway.pipeline.plan import MAX_CANDIDATES, Plan
from gateway.pipeline.prefetch import Target, prefetches
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.retrieval import SKIPPABLE, Candidates, Retrieval
from gateway.pipeline.slow_stages import OptionalStages
from gateway.pipeline.tiers import Tiers
from sirdar.errors import SirdarError
from sirdar.v1 import common_pb2

# Takes an answer that a better one will follow.
BeforeRerank = Callable[[SearchAnswer], None]

_WIDEN = 4


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
