"""Ten times as much as the embedder can do, and callers that give up.

Open loop: messages leave at random moments (a Poisson process) whether answers
come or not, each with a second to live.
"""

import asyncio
import enum
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import median

import grpc
import uvloop

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.client import Stub, connected, texts_per_second, vectors_of
from benchmarks.embedder.texts import messages, repeated
from benchmarks.harness.command import Figures
from benchmarks.harness.metrics import scrape, total
from benchmarks.harness.quantile import quantile
from sirdar.v1 import embedder_pb2

_MESSAGE_TEXTS = 32
_IN_FLIGHT = 16
_OVERLOAD = 10
_DEADLINE_SECONDS = 1.0
# Until queues are as full as they get: not counted.
_WARM_SECONDS = 3.0
_CANCELLED_OF = 10
_TOKENS = "sirdar_inference_tokens_total"
_WASTED_TOKENS = "sirdar_inference_wasted_tokens_total"


class Fate(enum.Enum):
    ANSWERED = "answered"
    REFUSED = "refused"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message."""

    fate: Fate
    sent: float
    """Seconds since the start."""
    seconds: float
    """From sending to the answer, the refusal or the end of waiting."""
    texts: int = 0
    """How many have a vector."""

    @property
    def at(self) -> float:
        return self.sent + self.seconds


@dataclass(frozen=True, slots=True)
class Overload:
    """The figures of an overload, of what ended or was sent in [start, end)."""

    texts_per_second: float
    """Answered in time."""
    late_share: float
    """Of the messages that were let in."""
    refused_share: float
    refusal_p50_seconds: float
    refusal_p99_seconds: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], start: float, end: float) -> "Overload":
        answered = sum(one.texts for one in outcomes if start <= one.at < end)
        steady = [one for one in outcomes if start <= one.sent < end]
        refusals = [one.seconds for one in steady if one.fate is Fate.REFUSED]
        admitted = len(steady) - len(refusals)
        late = sum(one.fate is Fate.LATE for one in steady)
        if not refusals:
            raise RuntimeError(f"all of {admitted} messages were let in: no overload")
        return cls(
            answered / (end - start),
            # None let in, none late: the goodput says how bad that is.
            late / admitted if admitted else 0.0,
            len(refusals) / len(steady),
            quantile(refusals, 0.5),
            quantile(refusals, 0.99),
        )


def overload_outcomes(
    address: str, batches: Sequence[list[str]], messages_per_second: float, seconds: float
) -> list[Outcome]:
    """Of messages sent for so many seconds."""
    return uvloop.run(_overload(address, batches, messages_per_second, seconds))


async def _overload(
    address: str, batches: Sequence[list[str]], messages_per_second: float, seconds: float
) -> list[Outcome]:
    draw = random.Random(1)
    requests = cycle([embedder_pb2.EmbedTextsRequest(texts=texts) for texts in batches])
    calls = []
    async with connected(address) as stub:
        began = time.perf_counter()
        at = 0.0
        while at < seconds:
            await asyncio.sleep(began + at - time.perf_counter())
            calls.append(asyncio.create_task(_outcome(stub, next(requests), began)))
            at += draw.expovariate(messages_per_second)
        return list(await asyncio.gather(*calls))


async def _outcome(stub: Stub, request: embedder_pb2.EmbedTextsRequest, began: float) -> Outcome:
    started = time.perf_counter()
    texts = 0
    try:
        texts = vectors_of(await stub.EmbedTexts(request, timeout=_DEADLINE_SECONDS))
        fate = Fate.ANSWERED
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            fate = Fate.REFUSED
        elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            fate = Fate.LATE
        else:
            raise
    seconds = time.perf_counter() - started
    if fate is Fate.ANSWERED and (seconds > _DEADLINE_SECONDS or texts < len(request.texts)):
        fate, texts = Fate.LATE, 0
    return Outcome(fate, started - began, seconds, texts)


def calls_with_cancelled(
    address: str, batches: Sequence[list[str]], in_flight: int, seconds: float
) -> int:
    """Calls for so many seconds, every tenth of them given up at a random moment.

    The moment is anywhere in what the calls before took. Returns how many were
    given up before their answer came.
    """
    return uvloop.run(_calls_with_cancelled(address, batches, in_flight, seconds))


async def _calls_with_cancelled(
    address: str, batches: Sequence[list[str]], in_flight: int, seconds: float
) -> int:
    draw = random.Random(2)
    requests = cycle([embedder_pb2.EmbedTextsRequest(texts=texts) for texts in batches])
    ends = time.perf_counter() + seconds
    calls = cancelled = 0
    usual_seconds = 0.0

    async def worker(stub: Stub) -> None:
        nonlocal calls, cancelled, usual_seconds
        while (started := time.perf_counter()) < ends:
            calls += 1
            call = stub.EmbedTexts(next(requests))
            if calls % _CANCELLED_OF == 0:
                await asyncio.sleep(draw.uniform(0, usual_seconds))
                cancelled += call.cancel()
                continue
            await call
            usual_seconds = time.perf_counter() - started

    async with connected(address) as stub:
        await asyncio.gather(*(worker(stub) for _ in range(in_flight)))
    return cancelled


def measure(bench: Bench) -> Figures:
    """Goodput, lateness and refusals under overload; what was computed for nobody."""
    batches = messages(bench.texts.mixed, _MESSAGE_TEXTS)
    before = _Tokens.of(bench)
    goodputs, runs = [], []
    for turn in range(bench.scale.overload_turns):
        capacity, run = _turn(bench, batches)
        bench.say(f"overload {turn}: capacity {capacity:.0f} texts/s, {run}")
        goodputs.append(run.texts_per_second / capacity)
        runs.append(run)
    overloaded = _Tokens.of(bench)
    cancelled = bench.clients.run(
        calls_with_cancelled, bench.address, batches, _IN_FLIGHT, bench.scale.overload_seconds
    )
    end = _Tokens.of(bench)
    bench.say(f"{cancelled} of the last calls were given up")
    return {
        "overload_goodput": median(goodputs),
        "overload_late": median(run.late_share for run in runs),
        "overload_refused": median(run.refused_share for run in runs),
        "refusal_p50_ms": 1000 * median(run.refusal_p50_seconds for run in runs),
        "refusal_p99_ms": 1000 * median(run.refusal_p99_seconds for run in runs),
        "wasted_compute": end.wasted_share_since(before),
        "wasted_compute_overload": overloaded.wasted_share_since(before),
        "wasted_compute_cancelled": end.wasted_share_since(overloaded),
    }


def _turn(bench: Bench, batches: Sequence[list[str]]) -> tuple[float, Overload]:
    """Texts a second of the server when it is asked for no more than it can, and then for more."""
    closed = messages(repeated(bench.texts.mixed, bench.scale.texts), _MESSAGE_TEXTS)
    capacity = bench.clients.run(texts_per_second, bench.address, closed, _IN_FLIGHT)
    seconds = _WARM_SECONDS + bench.scale.overload_seconds
    rate = _OVERLOAD * capacity / _MESSAGE_TEXTS
    outcomes = bench.clients.run(overload_outcomes, bench.address, batches, rate, seconds)
    return capacity, Overload.of(outcomes, _WARM_SECONDS, seconds)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What the server has counted."""

    computed: float
    wasted: float

    @classmethod
    def of(cls, bench: Bench) -> "_Tokens":
        text = scrape(bench.metrics_address)
        return cls(total(text, _TOKENS), total(text, _WASTED_TOKENS))

    def wasted_share_since(self, before: "_Tokens") -> float:
        return (self.wasted - before.wasted) / (self.computed - before.computed)
