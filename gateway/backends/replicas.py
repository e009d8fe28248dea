"""Reads over the replicas of a tier: who is asked, who is asked instead, and when twice."""

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from gateway.backends.allowance import Allowance
from gateway.backends.endpoint import BadAnswer, Check, Endpoint, Method, Reply, far_too_slow
from gateway.backends.hedge import hedged
from gateway.metrics import HEDGES, RETRIES
from gateway.recent_seconds import RecentSeconds
from sirdar.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    SirdarError,
    Unavailable,
    Unimplemented,
)
from sirdar.v1 import retriever_pb2

WRITER = 0
# Retries are for a tenth of the calls. When a replica is lost its calls in flight go to another,
# which is no more load than it would have had; where there is no other one, a few are enough.
_RETRY_SHARE = 0.1
_SAVED_RETRIES, _SAVED_FAILOVERS = 10.0, 256.0
# Before the second and the third attempt, where nobody else can be asked.
_PAUSES = (0.05, 0.15)
_HEDGE_SHARE, _SAVED_HEDGES = 0.05, 5.0
_HEDGED_QUANTILE = 0.95
# Fewer say little of the slowest twentieth.
_FEWEST_TIMES = 20
# Before another replica has to be asked, while little is known of how long searches take.
_PATIENCE_SECONDS, _PROBE_PATIENCE_SECONDS = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Read(Generic[Reply]):
    """A method that may be called twice."""

    methods: tuple[Method[Reply], ...]
    """One a replica."""
    check: Check | None
    writer_first: bool = False


class Replicas:
    """Endpoints that answer the same. The first is the writer: it is never behind.

    Each call goes to the better of two at random, by calls in flight and mean
    latency (Mitzenmacher, The power of two choices, 2001), and past those whose
    circuit is open. What fails with UNAVAILABLE is asked of another at once,
    or after a pause where there is none, within a budget. Nothing else retries:
    gRPC's own retries are off, so that attempts do not multiply.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._several = len(self._endpoints) > 1
        self._retries = Allowance(
            _RETRY_SHARE, _SAVED_FAILOVERS if self._several else _SAVED_RETRIES
        )
        self._hedges = Allowance(_HEDGE_SHARE, _SAVED_HEDGES)
        self._search_seconds = RecentSeconds()
        tier = self._endpoints[0].tier
        self._retried = RETRIES.labels(tier, "spent")
        self._not_retried = RETRIES.labels(tier, "refused")

    async def call(self, read: Read[Reply], request: Any, limit_seconds: float) -> Reply:
        """Raises the errors of `Endpoint.call`."""
        return (await self._call(read, request, limit_seconds, read.writer_first, hedge=False))[0]

    async def search(
        self,
        read: Read[retriever_pb2.SearchPassagesResponse],
        request: retriever_pb2.SearchPassagesRequest,
        limit_seconds: float,
        *,
        writer_first: bool,
    ) -> retriever_pb2.SearchPassagesResponse:
        """As `call`; where there are several, slow ones are hedged, and an answer that lacks
        shards is asked for again elsewhere."""
        if not self._several:
            return await self.call(read, request, limit_seconds)
        until = time.monotonic() + limit_seconds
        found, place = await self._call(read, request, limit_seconds, writer_first, hedge=True)
        if found.coverage.shards_answered >= found.coverage.shards_asked:
            return found
        other = self._pick(writer_first=True, tried=(place,))
        if other in (None, place) or not self._may_retry():
            return found
        try:
            again = await self._try(other, read, request, until - time.monotonic())
        except SirdarError:
            return found
        return max(found, again, key=lambda reply: reply.coverage.shards_answered)

    async def _call(
        self,
        read: Read[Reply],
        request: Any,
        limit_seconds: float,
        writer_first: bool,
        hedge: bool,
    ) -> tuple[Reply, int]:
        until = time.monotonic() + limit_seconds
        place = self._pick(writer_first, ())
        if place is None:
            raise self._endpoints[WRITER].refusal()
        self._retries.earn()
        tried: tuple[int, ...] = ()
        while True:
            try:
                left = limit_seconds if not tried else until - time.monotonic()
                if hedge:
                    return await self._hedged(place, read, request, left)
                return await self._try(place, read, request, left), place
            except Unavailable as failed:
                tried = (*tried, place)
                place = await self._next(failed, tried, writer_first, until)
            except (NotFound, FailedPrecondition, Unimplemented, DeadlineExceeded) as refused:
                return await self._ask_writer(refused, place, read, request, until), WRITER

    def _try(
        self, place: int, read: Read[Reply], request: Any, limit_seconds: float
    ) -> Awaitable[Reply]:
        endpoint = self._endpoints[place]
        return endpoint.call(read.methods[place], request, limit_seconds, read.check)

    def _pick(self, writer_first: bool, tried: tuple[int, ...]) -> int | None:
        """The next to ask, one that was not tried if any is well; None: all circuits are open."""
        if not self._several:
            return WRITER if self._endpoints[WRITER].breaker.lets_through() else None
        well: list[int] = []
        for place, endpoint in enumerate(self._endpoints):
            if not endpoint.breaker.open:
                well.append(place)
            elif place not in tried and endpoint.breaker.lets_through():
                # A probe: who may be back is found out first.
                return place
        fresh = [place for place in well if place not in tried] or well
        if not fresh:
            return None
        if writer_first and WRITER in fresh:
            return WRITER
        if len(fresh) == 1:
            return fresh[0]
        one, other = random.sample(fresh, 2)
        return one if self._endpoints[one].load <= self._endpoints[other].load else other

    async def _next(
        self,
        failed: Unavailable,
        tried: tuple[int, ...],
        writer_first: bool,
        until: float,
    ) -> int:
        """Whom to ask instead. Raises the failure where there is to be no other attempt."""
        if len(tried) > len(_PAUSES):
            raise failed
        place = self._pick(writer_first, tried)
        if place is None:
            raise failed
        pause = 0.0
        if place in tried:
            if isinstance(failed, BadAnswer):
                raise failed
            pause = _PAUSES[len(tried) - 1] * random.uniform(0.8, 1.2)
            if failed.retry_after is not None:
                pause = max(pause, failed.retry_after.total_seconds())
        if time.monotonic() + pause >= until or not self._may_retry():
            raise failed
        if pause:
            await asyncio.sleep(pause)
        return place

    def _may_retry(self) -> bool:
        allowed = self._retries.spend()
        (self._retried if allowed else self._not_retried).inc()
        return allowed

    async def _ask_writer(
        self, refused: SirdarError, place: int, read: Read[Reply], request: Any, until: float
    ) -> Reply:
        """A replica that is behind may not know of a collection, or of a write, yet.

        Raises the refusal when it is the writer's own, or the writer is away.
        """
        behind = not isinstance(refused, DeadlineExceeded) or refused.reason == "NOT_APPLIED_YET"
        left = until - time.monotonic()
        if place == WRITER or not behind or left <= 0 or self._endpoints[WRITER].breaker.open:
            raise refused
        try:
            return await self._try(WRITER, read, request, left)
        except Unavailable:
            raise refused from None

    async def _hedged(
        self, place: int, read: Read[Reply], request: Any, limit_seconds: float
    ) -> tuple[Reply, int]:
        """A search, asked of another replica as well when it takes longer than nearly all: while
        such searches are few, and in any case when it takes far longer, as a retry."""
        # A replica that is tried again may hang.
        probing = self._endpoints[place].breaker.open
        self._hedges.earn()
        others: list[int] = []

        def second(moment: int) -> Awaitable[Reply] | None:
            other = self._pick(writer_first=True, tried=(place,))
            if other in (None, place):
                return None
            if not (self._hedges.spend() or (moment == last and self._may_retry())):
                _NOT_HEDGED.inc()
                return None
            _HEDGED.inc()
            others.append(other)
            return self._try(other, read, request, limit_seconds - (time.perf_counter() - started))

        moments = self._moments(probing)
        last = len(moments) - 1
        started = time.perf_counter()
        found = await hedged(self._try(place, read, request, limit_seconds), second, moments)
        # Where the second won: the first would have taken at least as long.
        self._search_seconds.observe(time.perf_counter() - started)
        if found.second_won:
            _HEDGE_WON.inc()
        return found.reply, others[0] if found.second_won else place

    def _moments(self, probing: bool) -> tuple[float, ...]:
        """How long a search may take before another replica is asked, and before it has to be."""
        if len(self._search_seconds) < _FEWEST_TIMES:
            return (_PROBE_PATIENCE_SECONDS if probing else _PATIENCE_SECONDS,)
        nearly_all = self._search_seconds.quantile(_HEDGED_QUANTILE)
        too_long = far_too_slow(nearly_all)
        return (too_long,) if probing else (nearly_all, too_long)


_HEDGED = HEDGES.labels("sent")
_HEDGE_WON = HEDGES.labels("won")
_NOT_HEDGED = HEDGES.labels("refused")
