"""Recall@10 at default settings, and whether the retriever's own estimate agrees."""

import time

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import found_documents, searches
from benchmarks.retriever.corpus import K, recall

_A_MESSAGE = 8
# Its sampling has a budget of 1 % of the CPU: it takes its time.
_WAIT_SECONDS = 60.0
_ENOUGH_QUERIES = 50
_MESSAGES_A_SECOND = 20


def measure(bench: Bench) -> Figures:
    """`live_recall_agrees` is true where the estimate's interval holds the true recall."""
    assert bench.load
    messages = searches(
        COLLECTION, bench.corpus.queries, _A_MESSAGE, ids_only=False, documents_with_text=0
    )
    found = bench.callers.run(found_documents, bench.address, messages)
    true = recall(found, bench.corpus.truth.tolist())
    bench.say(f"recall@{K} {true:.4f}")
    until = time.monotonic() + _WAIT_SECONDS
    figures: Figures = {"recall": true, "live_recall_agrees": False}
    at = 0
    while time.monotonic() < until:
        part = [messages[(at + step) % len(messages)] for step in range(_MESSAGES_A_SECOND)]
        bench.callers.run(found_documents, bench.address, part)
        at += len(part)
        estimates = [one for one in bench.shards(COLLECTION).recall if one.k == K]
        if estimates and estimates[0].queries >= _ENOUGH_QUERIES:
            break
        time.sleep(1.0)
    else:
        bench.say("no live recall in time")
        return figures
    estimate = estimates[0]
    bench.say(
        f"live recall {estimate.recall:.4f} in [{estimate.low:.4f}, {estimate.high:.4f}] by "
        f"{estimate.queries} queries"
    )
    return {
        "recall": true,
        "live_recall_agrees": estimate.low <= true <= estimate.high,
        "live_recall": estimate.recall,
        "live_recall_queries": float(estimate.queries),
    }
