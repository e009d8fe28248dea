"""Reads over the replicas of a tier: who is asked, who is asked instead, and when twice."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

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

_FIRST = frozenset({0})
_Found: TypeAlias = retriever_pb2.SearchPassagesResponse
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


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom to choose from: one that writes is never behind."""

    among: Collection[int]
    writer_first: bool


class Replicas:
    """Endpoints that answer the same. `writers` says which of them write: the first, as long as
    none has said so; `present` which can be reached: any, as long as none is known to.

    Each call goes to the better of two at random, by calls in flight and mean
    latency (Mitzenmacher, The power of two choices, 2001), and past those whose
    circuit is open. What fails with UNAVAILABLE is asked of another at once,
    or after a pause where there is none, within a budget. Nothing else retries:
    gRPC's own retries are off, so that attempts do not multiply.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        writers: Callable[[], frozenset[int]] = lambda: _FIRST,
        present: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._everyone = range(len(self._endpoints))
        self._present = present
        self._said_to_write = writers
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
        choice = Choice(self.everyone, read.writer_first)
        return (await self._call(read, request, limit_seconds, choice, hedge=False))[0]

    async def write(
        self,
        write: Read[Reply],
        request: Any,
        limit_seconds: float,
        among: Collection[int] = (),
    ) -> Reply:
        """Asked of one that writes, of these if there are any, and once: a call that was cut off
        may have been done."""
        writers = among or self._writers
        place = next(iter(writers))
        if len(writers) > 1:
            chosen = self._pick(Choice(writers, writer_first=False), ())
            place = place if chosen is None else chosen
        return await self._try(place, write, request, limit_seconds)

    async def search(
        self, read: Read[_Found], request: Any, limit_seconds: float, choice: Choice
    ) -> tuple[_Found, int]:
        """As `call`, hedged where there are several; and who answered."""
        return await self._call(read, request, limit_seconds, choice, hedge=len(choice.among) > 1)

    async def search_others(
        self, read: Read[_Found], request: Any, until: float, asked: tuple[int, ...]
    ) -> tuple[_Found, int] | None:
        """Once more, of one that was not asked, as a retry; None: there is none, or it fails
        too."""
        other = self._pick(Choice(self.everyone, writer_first=True), asked)
        if other is None or other in asked or not self._may_retry():
            return None
        try:
            return await self._try(other, read, request, until - time.monotonic()), other
        except SirdarError:
            return None

    @property
    def everyone(self) -> Collection[int]:
        """Who is there: addresses of retrievers that are still to come cost no call a try."""
        return self._present() or self._everyone

    @property
    def _writers(self) -> frozenset[int]:
        return self._said_to_write() or _FIRST

    async def _call(
        self,
        read: Read[Reply],
        request: Any,
        limit_seconds: float,
        choice: Choice,
        hedge: bool,
    ) -> tuple[Reply, int]:
        until = time.monotonic() + limit_seconds
        place = self._pick(choice, ())
        if place is None:
            raise self._endpoints[min(choice.among)].refusal()
        self._retries.earn()
        tried: tuple[int, ...] = ()
        while True:
            try:
                left = limit_seconds if not tried else until - time.monotonic()
                if hedge:
                    return await self._hedged(place, read, request, left, choice.among)
                return await self._try(place, read, request, left), place
            except Unavailable as failed:
                tried = (*tried, place)
                place = await self._next(failed, tried, choice, until)
            except (NotFound, FailedPrecondition, Unimplemented, DeadlineExceeded) as refused:
                writer = self._other_writer(refused, place, choice, until)
                return await self._ask_writer(refused, writer, read, request, until), writer

    def _try(
        self, place: int, read: Read[Reply], request: Any, limit_seconds: float
    ) -> Awaitable[Reply]:
        endpoint = self._endpoints[place]
        return endpoint.call(read.methods[place], request, limit_seconds, read.check)

    def _pick(self, choice: Choice, tried: tuple[int, ...]) -> int | None:
        """The next to ask, one that was not tried if any is well; None: all circuits are open."""
        if not self._several:
            return 0 if self._endpoints[0].breaker.lets_through() else None
        well: list[int] = []
        for place in choice.among:
            breaker = self._endpoints[place].breaker
            if not breaker.open:
                well.append(place)
            elif place not in tried and breaker.lets_through():
                # A probe: who may be back is found out first.
                return place
        fresh = [place for place in well if place not in tried] or well
        if not fresh:
            return None
        if choice.writer_first:
            fresh = [place for place in fresh if place in self._writers] or fresh
        if len(fresh) == 1:
            return fresh[0]
        one, other = random.sample(fresh, 2)
        return one if self._endpoints[one].load <= self._endpoints[other].load else other

    async def _next(
        self,
        failed: Unavailable,
        tried: tuple[int, ...],
        choice: Choice,
        until: float,
    ) -> int:
        """Whom to ask instead. Raises the failure where there is to be no other attempt."""
        if len(tried) > len(_PAUSES):
            raise failed
        place = self._pick(choice, tried)
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

    def _other_writer(self, refused: SirdarError, place: int, choice: Choice, until: float) -> int:
        """Who knows better: a replica that is behind may not know of a collection, or of a write,
        yet. Raises the refusal when it is a writer's own, or no writer may be asked."""
        behind = not isinstance(refused, DeadlineExceeded) or refused.reason == "NOT_APPLIED_YET"
        writers = self._writers
        if place in writers or not behind or until <= time.monotonic():
            raise refused
        for writer in writers:
            if writer in choice.among and not self._endpoints[writer].breaker.open:
                return writer
        raise refused

    async def _ask_writer(
        self, refused: SirdarError, writer: int, read: Read[Reply], request: Any, until: float
    ) -> Reply:
        """Raises the refusal where the writer is away."""
        try:
            return await self._try(writer, read, request, until - time.monotonic())
        except Unavailable:
            raise refused from None

    async def _hedged(
        self,
        place: int,
        read: Read[Reply],
        request: Any,
        limit_seconds: float,
        among: Collection[int],
    ) -> tuple[Reply, int]:
        """A search, asked of another replica as well when it takes longer than nearly all: while
        such searches are few, and in any case when it takes far longer, as a retry."""
        # A replica that is tried again may hang.
        probing = self._endpoints[place].breaker.open
        self._hedges.earn()
        others: list[int] = []

        def second(moment: int) -> Awaitable[Reply] | None:
            other = self._pick(Choice(among, writer_first=True), (place,))
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
