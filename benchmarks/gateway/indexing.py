"""Documents indexed end to end, beside what the embedder alone does with them."""

from statistics import median

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import embedded_passages_per_second, indexed_passages_per_second
from benchmarks.harness.command import Figures
from gateway.settings import GatewaySettings


def measure(bench: Bench) -> Figures:
    """Both take turns with the same documents; the embedder is called as the gateway does."""
    settings = GatewaySettings()
    stack = bench.stack
    documents = bench.corpus.documents
    shares, indexed, embedded = [], [], []
    count = bench.scale.indexed_documents
    for turn in range(bench.scale.turns + 1):
        start = (turn * count) % max(1, len(documents) - count)
        part = documents[start : start + count]
        embedded.append(
            bench.callers.run(
                embedded_passages_per_second,
                stack.addresses["embedder"],
                part,
                settings.index_batch_documents,
                settings.index_batches_in_flight,
            )
        )
        indexed.append(
            bench.callers.run(indexed_passages_per_second, stack.address, f"indexing-{turn}", part)
        )
        shares.append(indexed[-1] / embedded[-1])
        bench.say(
            f"index {turn}: {indexed[-1]:.0f} passages/s, the embedder alone {embedded[-1]:.0f}, "
            f"{shares[-1]:.3f} of it"
        )
    # The first is the warm-up.
    return {
        "index_over_embedder": median(shares[1:]),
        "indexed_passages_per_second": median(indexed[1:]),
        "embedder_passages_per_second": median(embedded[1:]),
    }
