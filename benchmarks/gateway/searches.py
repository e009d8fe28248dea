"""Searches end to end, beside the twenty-line program of baseline.py."""

from statistics import median

import httpx
import uvloop

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import indexed_passages_per_second, searches_per_second
from benchmarks.harness.command import Figures
from benchmarks.smoke import baseline_server, index_baseline, search_all

COLLECTION = "cranfield"
_IN_FLIGHT = 64
_BASELINE_SHARE = 4
_MODES = ("dense", "hybrid")


def measure(bench: Bench) -> Figures:
    """Same corpus and model, 64 in flight, without reranking; both take turns. The baseline
    searches by meaning only, so the ratio is of that; hybrid stands beside it."""
    corpus = bench.corpus
    queries = list(corpus.queries.values())
    many = (queries * (1 + bench.scale.searches // len(queries)))[: bench.scale.searches]
    few = many[: max(_IN_FLIGHT, len(many) // _BASELINE_SHARE)]
    rates: dict[str, list[float]] = {name: [] for name in ("baseline", *_MODES)}
    with baseline_server() as url:
        uvloop.run(_index_baseline(bench, url))
        address = bench.stack.address
        bench.callers.run(indexed_passages_per_second, address, COLLECTION, corpus.documents)
        for turn in range(bench.scale.turns + 1):
            rates["baseline"].append(uvloop.run(_search_baseline(url, few)))
            for mode in _MODES:
                rates[mode].append(
                    bench.callers.run(
                        searches_per_second, address, COLLECTION, many, mode, _IN_FLIGHT
                    )
                )
            said = ", ".join(f"{name} {seen[-1]:.0f}" for name, seen in rates.items())
            bench.say(f"searches/s {turn}: {said}")
    # The first is the warm-up.
    of = {name: seen[1:] for name, seen in rates.items()}
    over = {
        mode: median(a / b for a, b in zip(of[mode], of["baseline"], strict=True))
        for mode in _MODES
    }
    return {
        "searches_over_baseline": over["dense"],
        "hybrid_searches_over_baseline": over["hybrid"],
        "searches_per_second": median(of["dense"]),
        "hybrid_searches_per_second": median(of["hybrid"]),
        "baseline_searches_per_second": median(of["baseline"]),
    }


async def _index_baseline(bench: Bench, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        await index_baseline(client, bench.corpus.documents)


async def _search_baseline(url: str, queries: list[str]) -> float:
    limits = httpx.Limits(max_connections=_IN_FLIGHT)
    async with httpx.AsyncClient(
        base_url=url, timeout=300, trust_env=False, limits=limits
    ) as client:

        async def ask(query: str) -> object:
            return (await client.get("/search", params={"q": query})).raise_for_status().json()

        rate, _ = await search_all(ask, queries, _IN_FLIGHT)
        return rate
