"""A caller that searches, counts what it has to try again, and holds answers against the oracle."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc

from sirdar.client import Consistency, RerankSettings, SearchResults
from sirdar.client.calls import Calls
from sirdar.client.options import SearchOptions
from sirdar.errors import ResourceExhausted, SirdarError, Unavailable, from_rpc_error
from sirdar.v1.search_pb2 import SearchRequest, SearchResponse
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.chaos.cluster.contents import QUERIES
from tests.chaos.cluster.histories import Histories, WrongAnswer
from tests.chaos.cluster.writer import COLLECTION

DEADLINE_SECONDS = 10.0
_PACE_SECONDS = 0.02
# As the client's policy says, which does it without telling.
_ATTEMPTS, _FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 4, 0.1, 1.0
_SESSION_TOKENS = 4
_SHOWN = 20


@dataclass
class Answers:
    """What callers saw of their reads."""

    reads: int = 0
    answered: int = 0
    """Completely: with all shards."""
    retries: int = 0
    partial: int = 0
    """Answered with less than all shards, and said so."""
    degraded: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def availability(self) -> float:
        return self.answered / self.reads if self.reads else 0.0


class Reader:
    """Asks the gateways in turn, and the next one where one fails. `answers` counts the reads
    that any replica may answer, `strong` those that need the store of record as it is now."""

    def __init__(self, addresses: Sequence[str], histories: Histories, seed: int) -> None:
        # The policy of the client is followed here, so that what is tried again can be counted.
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        options += [("grpc.initial_reconnect_backoff_ms", 100)]
        options += [("grpc.max_reconnect_backoff_ms", 1000)]
        self._channels = [grpc.aio.insecure_channel(address, options) for address in addresses]
        self._calls = Calls("")
        self._histories = histories
        self._random = random.Random(seed)
        self._next = 0
        self.settled = histories.floors()
        """What every retriever shows for sure."""
        self.stop = asyncio.Event()
        self.answers = Answers()
        self.strong = Answers()

    async def run(self) -> None:
        while not self.stop.is_set():
            await self._read()
            await asyncio.sleep(_PACE_SECONDS)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def _read(self) -> None:
        consistency, floors, tokens = self._sees()
        query, top_k = self._random.randrange(len(QUERIES)), self._random.choice((5, 10, 200))
        options: SearchOptions = {"consistency": consistency, "tokens": tokens, "top_k": top_k}
        exact = self._random.random() < 0.75
        if exact:
            options |= {"exact": True, "mode": "dense", "rerank": RerankSettings(enabled=False)}
        await self._check(query, floors, options, exact=exact)

    async def read_all(self) -> SearchResults | None:
        """Everything, as the store of record is now; what is wrong is counted."""
        floors = self._histories.floors()
        options: SearchOptions = {
            "consistency": Consistency.STRONG,
            "top_k": len(self._histories),
            "exact": True,
            "mode": "dense",
            "rerank": RerankSettings(enabled=False),
            "cache": "none",
        }
        return await self._check(0, floors, options, exact=True)

    async def _check(
        self, query: int, floors: Sequence[int], options: SearchOptions, *, exact: bool
    ) -> SearchResults | None:
        strong = options["consistency"] is Consistency.STRONG
        answers = self.strong if strong else self.answers
        answers.reads += 1
        found = await self._search(QUERIES[query], options, answers)
        if found is None:
            return None
        answers.degraded.update(item.reason for item in found.degraded)
        if not found.coverage.complete:
            answers.partial += 1
        else:
            answers.answered += 1
        try:
            self._histories.check_found(found, query, floors, options["top_k"], exact=exact)
        except WrongAnswer as fault:
            if len(answers.wrong) < _SHOWN:
                print(f"WRONG ANSWER to {QUERIES[query]!r} with {options}: {fault}", flush=True)
            answers.wrong.append(str(fault))
        return found

    def _sees(self) -> tuple[Consistency, list[int], list[str]]:
        """How fresh a read is to be, the attempts that it must see, and the tokens that say so."""
        consistency = self._random.choice(list(Consistency))
        if consistency is Consistency.STRONG:
            return consistency, self._histories.floors(), []
        floors = list(self.settled)
        tokens: list[str] = []
        if consistency is Consistency.SESSION:
            now = self._histories.floors()
            for number in self._random.sample(range(len(floors)), _SESSION_TOKENS):
                if token := self._histories.token(number):
                    floors[number] = now[number]
                    tokens.append(token)
        return (consistency if tokens else Consistency.EVENTUAL), floors, tokens

    async def _search(
        self, query: str, options: SearchOptions, answers: Answers
    ) -> SearchResults | None:
        """None where it failed within its deadline, or as often as the client tries."""
        call = self._calls.search(COLLECTION, query, options)
        started = time.monotonic()
        failure: SirdarError | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                pause = min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _MOST_PAUSE_SECONDS)
                await asyncio.sleep(pause)
                answers.retries += 1
            self._next += 1
            channel = self._channels[self._next % len(self._channels)]
            stub = SearchServiceStub(cast(grpc.Channel, channel))
            left = DEADLINE_SECONDS - (time.monotonic() - started)
            try:
                method = cast(
                    "grpc.aio.UnaryUnaryMultiCallable[SearchRequest, SearchResponse]",
                    call.method(stub),
                )
                answer = await method(call.request, timeout=left)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error)
                if not isinstance(failure, Unavailable | ResourceExhausted):
                    break
            else:
                seconds = time.monotonic() - started
                answers.slowest_seconds = max(answers.slowest_seconds, seconds)
                return call.read(answer)
        assert failure is not None
        answers.failed[f"{type(failure).__name__} {failure.reason}"] += 1
        print(f"FAILED after {time.monotonic() - started:.1f} s: {failure!r}", flush=True)
        return None
