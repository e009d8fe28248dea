"""The stages that a search can do without: each says so where it was skipped."""

import time
from collections.abc import Sequence

from gateway.backends import Reranker
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.pipeline.diversity import diversify
from gateway.pipeline.plan import Plan
from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.rerank import fuse_logits, passage_texts
from gateway.pipeline.stages import Diversify, Rerank
from gateway.pipeline.tiers import Tiers
from sirdar.errors import DeadlineExceeded, SirdarError
from sirdar.v1 import common_pb2

_RERANK = common_pb2.STAGE_RERANK


class OptionalStages:
    """`later` are the stages that the search has still to do after these."""

    def __init__(
        self, tiers: Tiers, plan: Plan, text: str, answer: SearchAnswer, later: Sequence[StageName]
    ) -> None:
        self._tiers = tiers
        self._plan = plan
        self._text = text
        self._answer = answer
        self._later = later

    async def rerank(self, pool: Pool, ranking: Ranking, stage: Rerank) -> Ranking:
        plan = stage.plan
        head = list(ranking.scores)[: plan.depth] if plan is not None else []
        if plan is None or not head:
            return ranking
        try:
            reranker = self._reranker()
            limit_seconds, fit = self._time(len(head))
            with self._tiers.observed(_RERANK, self._answer, optional=True):
                started = time.perf_counter()
                texts = passage_texts(pool, head[:fit])
                logits = await reranker.logits(stage.query or self._text, texts, limit_seconds)
                self._tiers.budget.observe_rerank(
                    fit - len(logits.dropped), time.perf_counter() - started
                )
        except SirdarError as error:
            self._answer.degrade(common_pb2.DEGRADED_REASON_RERANK_SKIPPED, error.message)
            return ranking
        scored = [place for at, place in enumerate(head[:fit]) if at not in logits.dropped]
        if len(scored) < len(head):
            self._answer.degrade(
                common_pb2.DEGRADED_REASON_RERANK_PARTIAL,
                f"the reranker had time for {len(scored)} of {len(head)} candidates; the others "
                "follow in the retriever's order",
            )
        known = {head[at]: logit for at, logit in logits.known.items()}
        return fuse_logits(ranking, scored, known, plan)

    async def diversify(self, pool: Pool, ranking: Ranking, stage: Diversify) -> Ranking:
        found = await diversify(pool, ranking, stage.relevance, self._plan.diversity_depth)
        if found is None:
            why = (
                "the retriever gave no vectors"
                if ranking.comparable
                else "vectors of different spaces cannot be compared"
            )
            self._answer.degrade(common_pb2.DEGRADED_REASON_DIVERSIFY_SKIPPED, why)
            return ranking
        return found

    def _reranker(self) -> Reranker:
        if self._tiers.reranker is None:
            raise SirdarError("the gateway has no reranker")
        return self._tiers.reranker

    def _time(self, passages: int) -> tuple[float, int]:
        """What reranking may take, and how many of the passages fit in it.

        Raises DeadlineExceeded where there is too little.
        """
        budget = self._tiers.budget
        limit = self._tiers.settings.rerank_timeout_seconds
        seconds = budget.limit_seconds(_RERANK, limit, later=self._later)
        fit = budget.passages_that_fit(passages, seconds) if seconds > 0 else 0
        if not fit:
            raise DeadlineExceeded("there was no time to rerank; allow more")
        return seconds, fit
