"""Whether the semantic cache knows how often it is wrong, and stops where it is too often."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import indexed_passages_per_second, searching
from benchmarks.harness.command import Figures
from benchmarks.harness.metrics import scrape
from gateway.cache.quality import FALSE_HIT_OVERLAP
from gateway.cache.semantic import overlap
from services.stack.stack import Stack
from sirdar.v1 import common_pb2, query_pb2, search_pb2

COLLECTION = "semantic"
# Low, so that there are false hits; the default is 0.97.
_SIMILARITY = "0.85"
_SETTLED_SECONDS = 5.0
# It compares hits a fifth of its time: on a slow machine one round has too few to be sure.
_MOST_ROUNDS = 5
_FALSE_HITS = "sirdar_gateway_cache_semantic_false_hits_ratio"
_COMPARED = "sirdar_gateway_cache_semantic_overlap_count"


@dataclass(frozen=True, slots=True)
class Hits:
    """What became of queries that may be answered by a near one's answer."""

    answered: int
    false: int
    off: int
    """Searched, as the cache had turned itself off."""


def measure(bench: Bench) -> Figures:
    """Cranfield's queries, each followed by forms that lack a word or two. Each semantic hit is
    searched for real by the caller, too; the cache itself samples half of them. It agrees when
    its interval holds the real share of false hits, and when, with a floor that the share of true
    hits is below, it turns itself off, of itself, within five rounds of the queries."""
    queries = list(bench.corpus.queries.values())
    if bench.scale.turns == 1:
        queries = queries[:60]
    with bench.semantic(_settings(sampled="0.5", floor="0")) as stack:
        hits = _run(bench, stack, queries)
        seen = _settled(stack)
    real = hits.false / hits.answered
    with bench.semantic(_settings(sampled="1", floor=str(min(1.0, 1 - real / 2)))) as stack:
        off = _run(bench, stack, queries).off
        for _ in range(_MOST_ROUNDS - 1):
            off = off or bench.callers.run(ask, stack.address, queries).off
    agrees = seen["low"] <= real <= seen["high"] and off > 0
    bench.say(
        f"semantic: {hits.false} of {hits.answered} hits are false ({real:.3f}), measured "
        f"{seen['estimate']:.3f} in [{seen['low']:.3f}, {seen['high']:.3f}]; {off} searches came "
        "after it had turned itself off"
    )
    return {
        "semantic_quality_agrees": agrees,
        "semantic_false_share": real,
        "semantic_false_estimate": seen["estimate"],
    }


def _settings(*, sampled: str, floor: str) -> dict[str, str]:
    return {"SIMILARITY": _SIMILARITY, "SAMPLED": sampled, "FLOOR": floor}


def _run(bench: Bench, stack: Stack, queries: Sequence[str]) -> Hits:
    documents = bench.corpus.documents[:400]
    bench.callers.run(indexed_passages_per_second, stack.address, COLLECTION, documents)
    return bench.callers.run(ask, stack.address, queries)


def _settled(stack: Stack) -> dict[str, float]:
    """What the gateway says of its hits when no more of them is being compared."""
    address = f"127.0.0.1:{stack.layout.metrics_ports['gateway']}"
    before, since = -1.0, time.monotonic()
    while time.monotonic() - since < _SETTLED_SECONDS:
        compared = dict(_samples(address, _COMPARED)).get("", 0.0)
        if compared != before:
            before, since = compared, time.monotonic()
        time.sleep(0.2)
    return dict(_samples(address, _FALSE_HITS))


def _samples(address: str, name: str) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(scrape(address)):
        for sample in family.samples:
            if sample.name == name:
                yield sample.labels.get("bound", ""), sample.value


def forms(query: str) -> list[str]:
    """The query, then without its last word, and without every fourth."""
    words = query.split()
    rarer = [word for place, word in enumerate(words) if place % 4 != 3]
    return [query, *dict.fromkeys((" ".join(words[:-1]), " ".join(rarer)))]


def ask(address: str, queries: Sequence[str]) -> Hits:
    """One search at a time; each hit is compared with a real answer."""
    return uvloop.run(_ask(address, queries))


async def _ask(address: str, queries: Sequence[str]) -> Hits:
    answered = false = off = 0
    async with searching(address) as stub:
        for query in (form for each in queries for form in forms(each) if form):
            request = search_pb2.SearchRequest(
                collection=COLLECTION,
                query=query,
                mode=query_pb2.SEARCH_MODE_DENSE,
                cache=query_pb2.CACHE_USE_SEMANTIC,
                consistency=common_pb2.CONSISTENCY_STRONG,
            )
            kept = await stub.Search(request)
            off += kept.cache.status == query_pb2.CACHE_STATUS_SEMANTIC_OFF
            if kept.cache.status != query_pb2.CACHE_STATUS_SEMANTIC_HIT:
                continue
            request.cache = query_pb2.CACHE_USE_NONE
            real = await stub.Search(request)
            answered += 1
            false += overlap(kept, real, request.unit) < FALSE_HIT_OVERLAP
    if not answered:
        raise RuntimeError("no query was near enough to another")
    return Hits(answered, false, off)
