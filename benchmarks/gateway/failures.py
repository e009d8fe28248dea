"""Searches while what answers them is killed and comes back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import Watched, indexed_passages_per_second, watched
from benchmarks.harness.command import Figures
from services.stack.stack import Stack

COLLECTION = "failures"
_DOCUMENTS = 200
_A_SECOND = 8.0
_BEFORE_SECONDS = 2.0
_AFTER_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A tier that was killed: what the searches meanwhile were like."""

    tier: str
    errors: int
    degraded: int
    recovery_seconds: float
    """From the tier being SERVING again until the last answer was sent for that was not whole."""


def measure(bench: Bench) -> Figures:
    """A stack with a reranker, two retrievers on one store and answers kept on Redis. Searches,
    hybrid, reranked and each another, go at a steady pace without retries of their own; each of
    these is killed in turn, stays away for some seconds and is started again. A partial answer
    is no error, and is counted."""
    with bench.redis() as redis, bench.replicated(redis.url) as stack:
        documents = bench.corpus.documents[:_DOCUMENTS]
        bench.callers.run(indexed_passages_per_second, stack.address, COLLECTION, documents)
        outages = [
            _outage(bench, stack, name, partial(stack.kill, name), partial(stack.restart, name))
            for name in ("reranker", "retriever-2", "retriever")
        ]
        outages.insert(1, _outage(bench, stack, "redis", redis.kill, redis.start))
    for outage in outages:
        bench.say(
            f"{outage.tier} killed: {outage.errors} searches failed, {outage.degraded} were less "
            f"than whole, whole again {outage.recovery_seconds:.2f} s after it was back"
        )
    return {
        "errors": sum(outage.errors for outage in outages),
        "recovery_seconds": max(outage.recovery_seconds for outage in outages),
        "degraded_answers": sum(outage.degraded for outage in outages),
    }


def _outage(
    bench: Bench,
    stack: Stack,
    tier: str,
    kill: Callable[[], object],
    restart: Callable[[], object],
) -> Outage:
    away = bench.scale.outage_seconds
    # A model takes its time to load: longer than it stays away.
    seconds = _BEFORE_SECONDS + away + _AFTER_SECONDS + bench.scale.start_seconds
    # Not what was searched for before: that answer may be kept.
    queries = [f"{query} ({tier})" for query in bench.corpus.queries.values()]
    searching = bench.callers.start(watched, stack.address, COLLECTION, queries, _A_SECOND, seconds)
    time.sleep(_BEFORE_SECONDS)
    kill()
    # Away for as long as somebody takes to notice.
    time.sleep(away)
    restart()
    back = time.time()
    return _summed(tier, searching.result(), back)


def _summed(tier: str, searches: list[Watched], back: float) -> Outage:
    """Raises RuntimeError where the searches ended before it could be seen that all is well."""
    after = [one for one in searches if one.started > back]
    if len(after) < _A_SECOND:
        raise RuntimeError(f"the {tier} took longer to start than searches were sent")
    late = [one.started - back for one in after if one.failed or one.degraded]
    return Outage(
        tier,
        sum(one.failed for one in searches),
        sum(one.degraded for one in searches),
        max(late, default=0.0),
    )
