"""32 queries a message over gRPC, beside FAISS called in process with 32 queries."""

from statistics import median

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import queries_per_second, searches
from benchmarks.retriever.corpus import repeated

_A_MESSAGE = 32
_IN_FLIGHT = 8


def measure(bench: Bench) -> Figures:
    """The server over FAISS alone on the same segments and both cores."""
    assert bench.load
    queries = repeated(bench.corpus.queries, bench.scale.batched_queries)
    messages = searches(COLLECTION, queries, _A_MESSAGE)
    shares, alone, served = [], [], []
    with bench.local() as local:
        local.batched(queries[:1024], _A_MESSAGE)
        bench.callers.run(queries_per_second, bench.address, messages[:32], _A_MESSAGE, _IN_FLIGHT)
        for turn in range(bench.scale.turns):
            alone.append(local.batched(queries, _A_MESSAGE))
            served.append(
                bench.callers.run(
                    queries_per_second, bench.address, messages, _A_MESSAGE, _IN_FLIGHT
                )
            )
            shares.append(served[-1] / alone[-1])
            bench.say(
                f"batched {turn}: FAISS {alone[-1]:.0f} queries/s, server {served[-1]:.0f}, "
                f"{shares[-1]:.3f} of it"
            )
    return {
        "grpc_over_faiss_batched": median(shares),
        "faiss_batched_queries_per_second": median(alone),
        "server_batched_queries_per_second": median(served),
    }
