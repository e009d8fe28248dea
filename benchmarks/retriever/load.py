"""Taking the corpus in: durable vectors a second, memory at rest and at its highest."""

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import queries_per_second, searches
from benchmarks.retriever.memory import proportional_bytes

_IN_FLIGHT = 4


def measure(bench: Bench) -> Figures:
    """`bytes_per_vector` is after all queries were asked, so that what they touch is there."""
    load = bench.load
    messages = searches(
        COLLECTION, bench.corpus.queries[: len(bench.corpus.queries) // 32 * 32], 32
    )
    bench.callers.run(queries_per_second, bench.address, messages, 32, _IN_FLIGHT)
    resident = proportional_bytes(bench.pid)
    vectors = bench.scale.vectors
    bench.say(
        f"memory: {resident / 2**20:.0f} MiB, at most {load.peak_bytes / 2**20:.0f} MiB while "
        "it was built"
    )
    return {
        "durable_vectors_per_second": load.burst.documents / load.burst.seconds,
        "load_refusals": float(load.burst.refused),
        "load_seconds": load.seconds,
        "built_seconds": load.settled_seconds,
        "bytes_per_vector": resident / vectors,
        "bytes_per_vector_peak": load.peak_bytes / vectors,
    }
