"""What the gateway itself adds to a search: all but the tiers."""

from statistics import median

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import paced_search_seconds, paced_tier_seconds
from benchmarks.harness.command import Figures
from benchmarks.harness.quantile import quantile

_A_SECOND = 100.0


def measure(bench: Bench) -> Figures:
    """Searches of a gateway before tiers that have their answers ready, 100 a second, less the
    median time of the calls that it makes of them, made by the caller itself at the same pace.

    So the caller's own call, both ends of the tiers' answers and everything between is the
    gateway's; hybrid, ten documents of thirty candidates a list.
    """
    address = bench.lonely.addresses["gateway"]
    noop = bench.lonely.addresses["noop"]
    middles, ends, searched, called = [], [], [], []
    for turn in range(bench.scale.turns):
        seconds = bench.scale.paced_seconds
        tiers = bench.callers.run(paced_tier_seconds, noop, _A_SECOND, seconds)
        search = bench.callers.run(paced_search_seconds, address, _A_SECOND, seconds)
        searched.append(1000 * median(search))
        called.append(1000 * median(tiers))
        middles.append(searched[-1] - called[-1])
        ends.append(1000 * quantile(search, 0.99) - called[-1])
        bench.say(
            f"own {turn}: search {searched[-1]:.2f} ms, its calls of tiers {called[-1]:.2f} ms; "
            f"the gateway's p50 {middles[-1]:.2f} ms, p99 {ends[-1]:.2f} ms"
        )
    return {
        "own_p50_ms": median(middles),
        "own_p99_ms": median(ends),
        "noop_search_p50_ms": median(searched),
        "noop_tiers_p50_ms": median(called),
    }
