"""One query a call over gRPC, 32 in flight, beside what FAISS and calls allow."""

from statistics import median

from benchmarks.harness.ceiling import ceiling
from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import queries_per_second, searches
from benchmarks.retriever.corpus import repeated

_IN_FLIGHT = 32


def measure(bench: Bench) -> Figures:
    """The server over its ceiling: FAISS one query a call on every core, and a no-op call."""
    assert bench.load
    queries = repeated(bench.corpus.queries, bench.scale.single_queries)
    calls = searches(COLLECTION, queries, 1)
    noop_calls = searches(COLLECTION, repeated(queries, bench.scale.noop_calls), 1)
    shares, alone, noops, served = [], [], [], []
    with bench.local() as local:
        local.single(queries[:256])
        for address in (bench.address, bench.noop_address):
            bench.callers.run(queries_per_second, address, calls[:512], 1, _IN_FLIGHT)
        for turn in range(bench.scale.turns):
            alone.append(local.single(queries))
            noops.append(
                bench.callers.run(queries_per_second, bench.noop_address, noop_calls, 1, _IN_FLIGHT)
            )
            served.append(
                bench.callers.run(queries_per_second, bench.address, calls, 1, _IN_FLIGHT)
            )
            shares.append(served[-1] / ceiling(alone[-1], noops[-1]))
            bench.say(
                f"single {turn}: FAISS {alone[-1]:.0f} queries/s, no-op {noops[-1]:.0f} calls/s, "
                f"server {served[-1]:.0f}, {shares[-1]:.3f} of its ceiling"
            )
    return {
        "grpc_over_ceiling_single": median(shares),
        "faiss_single_queries_per_second": median(alone),
        "noop_calls_per_second": median(noops),
        "server_single_queries_per_second": median(served),
    }
