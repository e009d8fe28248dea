"""Retrieving: the candidates of a search from the collections that it asks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.catalog import CollectionEntry
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.pipeline.coverage import check_shards, check_words, least_coverage, summed_coverage
from gateway.pipeline.merge import merge
from gateway.pipeline.plan import MAX_CANDIDATES, Plan
from gateway.pipeline.prefetch import Prefetch, Target, is_full, passages_request, read_rankings
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.tiers import Tiers
from gateway.search_watch import note_expiry
from gateway.together import together
from sirdar.errors import (
    DataLoss,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    SirdarError,
    Unavailable,
)
from sirdar.v1 import common_pb2, query_pb2, retriever_pb2

# One of several collections may fail so, and the others be answered; what is wrong with the
# request is wrong whatever the others say.
SKIPPABLE = (Unavailable, DeadlineExceeded, ResourceExhausted, DataLoss, Internal)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one collection answered: its response to each prefetch, None where it could not be
    asked.

    `full` has how many candidates were asked for wherever the server chose that and all came:
    there may be more. `error`: why more were not to be had.
    """

    target: Target
    entry: CollectionEntry
    responses: tuple[retriever_pb2.SearchPassagesResponse | None, ...]
    full: tuple[int, ...]
    error: SirdarError | None = None

    @property
    def more(self) -> bool:
        return any(size < MAX_CANDIDATES for size in self.full)

    @property
    def answered(self) -> list[retriever_pb2.SearchPassagesResponse]:
        return [response for response in self.responses if response is not None]


@dataclass(frozen=True, slots=True)
class Candidates:
    """`more`: whether the server may ask for more than it chose to, and there may be more;
    `cut`: whether there may be, and it may not."""

    pool: Pool
    rankings: Mapping[int, Ranking]
    fetched: Sequence[Fetched]
    skipped: Mapping[str, SirdarError]
    more: bool
    cut: bool


class Retrieval:
    def __init__(
        self,
        tiers: Tiers,
        query: SearchQuery,
        plan: Plan,
        prefetches: Sequence[Prefetch],
        later: Sequence[StageName],
    ) -> None:
        self._tiers = tiers
        self._query = query
        self._plan = plan
        self._prefetches = prefetches
        self._later = later

    async def fetch(
        self,
        targets: Sequence[tuple[Target, CollectionEntry]],
        answer: SearchAnswer,
        widening: int,
        before: Candidates | None = None,
    ) -> Candidates:
        """`widening`: how many times the candidates that the server would choose; `before`: what
        fewer of them were. Collections that gave all they have are not asked again, and what
        one gave before stands where it does not answer now.

        Raises what the retriever raises; with several collections only where
        none answers, or all are required.
        """
        limit_seconds = self._tiers.budget.limit_seconds(
            common_pb2.STAGE_RETRIEVE,
            self._tiers.settings.retrieve_timeout_seconds,
            later=self._later,
        )
        with self._tiers.observed(common_pb2.STAGE_RETRIEVE, answer):
            if len(targets) == 1:
                target, entry = targets[0]
                fetched = [await self._fetch(target, entry, widening, limit_seconds)]
                skipped: dict[str, SirdarError] = {}
            else:
                fetched, skipped = await self._fetch_all(targets, widening, limit_seconds, before)
        pool = Pool()
        found = [self._rankings(pool, one) for one in fetched]
        if len(found) == 1:
            rankings: Mapping[int, Ranking] = found[0]
        else:
            rankings = merge(
                found,
                comparable=_comparable(fetched),
                rank_constant=self._tiers.settings.fusion_rank_constant,
            )
        for passage in pool.passages:
            if passage.HasField("expires"):
                note_expiry(passage.expires)
        return Candidates(
            pool,
            rankings,
            fetched,
            skipped,
            more=any(one.more for one in fetched),
            cut=any(MAX_CANDIDATES in one.full for one in fetched),
        )

    def account(self, candidates: Candidates, answer: SearchAnswer) -> None:
        """Says how much the candidates speak for. Raises Unavailable where all are required."""
        query = self._query
        coverages = []
        for one in candidates.fetched:
            of = f" of {one.target.name}" if query.several else ""
            coverage = least_coverage(response.coverage for response in one.answered)
            coverages.append(coverage)
            check_words(one.answered, of, query.require_complete, answer)
            check_shards(coverage, of, query.require_complete, answer)
            if query.several:
                answer.collections.append(
                    query_pb2.CollectionCoverage(
                        collection=one.target.name, space=one.entry.space, coverage=coverage
                    )
                )
        for name, error in candidates.skipped.items():
            answer.degrade(
                common_pb2.DEGRADED_REASON_COLLECTION_SKIPPED, f"{name}: {error.message}"
            )
        answer.coverage = coverages[0] if len(coverages) == 1 else summed_coverage(coverages)

    async def _fetch_all(
        self,
        targets: Sequence[tuple[Target, CollectionEntry]],
        widening: int,
        limit_seconds: float,
        before: Candidates | None,
    ) -> tuple[list[Fetched], dict[str, SirdarError]]:
        known = {one.target.name: one for one in before.fetched} if before else {}
        asked = [
            (target, entry)
            for target, entry in targets
            if target.name not in known or known[target.name].more
        ]
        answers = await asyncio.gather(
            *(self._fetch(target, entry, widening, limit_seconds) for target, entry in asked),
            return_exceptions=True,
        )
        outcomes = dict(zip((target.name for target, _ in asked), answers, strict=True))
        fetched: list[Fetched] = []
        skipped: dict[str, SirdarError] = {}
        for target, _ in targets:
            name = target.name
            outcome = outcomes[name] if name in outcomes else known[name]
            if isinstance(outcome, Fetched):
                fetched.append(outcome)
            elif isinstance(outcome, SKIPPABLE) and name in known:
                fetched.append(replace(known[name], full=(), error=outcome))
            elif isinstance(outcome, SKIPPABLE) and not self._query.require_complete:
                skipped[name] = outcome
            else:
                raise outcome
        if not fetched:
            raise next(iter(skipped.values()))
        return fetched, skipped

    async def _fetch(
        self, target: Target, entry: CollectionEntry, widening: int, limit_seconds: float
    ) -> Fetched:
        calls = [
            self._call(prefetch, target, widening, limit_seconds) for prefetch in self._prefetches
        ]
        # Of one call no task is made.
        responses = [await calls[0]] if len(calls) == 1 else await together(calls)
        full = [
            size
            for prefetch, response in zip(self._prefetches, responses, strict=True)
            if prefetch.widens
            and response is not None
            and is_full(response, size := _candidates(prefetch, widening))
        ]
        return Fetched(target, entry, tuple(responses), tuple(full))

    async def _call(
        self, prefetch: Prefetch, target: Target, widening: int, limit_seconds: float
    ) -> retriever_pb2.SearchPassagesResponse | None:
        if not target.queries(prefetch):
            return None
        request = passages_request(
            self._query, self._plan, prefetch, target, _candidates(prefetch, widening)
        )
        try:
            return await self._tiers.retriever.search(request, limit_seconds)
        except InvalidArgument as error:
            raise _in_the_request(error, self._query, prefetch) from error

    def _rankings(self, pool: Pool, fetched: Fetched) -> dict[int, Ranking]:
        rankings: dict[int, Ranking] = {}
        for prefetch, response in zip(self._prefetches, fetched.responses, strict=True):
            if response is not None:
                rankings |= read_rankings(
                    pool,
                    fetched.target.queries(prefetch),
                    prefetch,
                    response,
                    collection=fetched.target.name if self._query.several else None,
                    without=self._query.like,
                )
        return rankings


def _candidates(prefetch: Prefetch, widening: int) -> int:
    if not prefetch.widens:
        return prefetch.candidates
    return min(MAX_CANDIDATES, prefetch.candidates * widening)


def _comparable(fetched: Sequence[Fetched]) -> bool:
    """Whether similarities in all of these collections are of one kind."""
    return len({(one.entry.space.fingerprint, one.entry.similarity) for one in fetched}) == 1


def _in_the_request(
    error: InvalidArgument, query: SearchQuery, prefetch: Prefetch
) -> InvalidArgument:
    """A stage's own filter is joined to the search's: faults are named where the caller has
    them."""
    if prefetch.filter is None:
        return error
    joined = query.filter is not None
    own = "filter.all_of.filters[1]" if joined else "filter"
    places = [(own, prefetch.filter_path)]
    if joined:
        places.append(("filter.all_of.filters[0]", "filter"))
    for before, after in places:
        if any(field.field.startswith(before) for field in error.fields):
            error.message = error.message.replace(before, after, 1)
            error.fields = tuple(
                FieldViolation(field.field.replace(before, after, 1), field.description)
                for field in error.fields
            )
            break
    return error
