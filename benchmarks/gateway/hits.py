"""Answers that are kept, beside a call that does nothing."""

import time
from statistics import median

import uvloop

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import embedding, indexed_passages_per_second, searching
from benchmarks.harness.command import Figures
from sirdar.v1 import common_pb2, embedder_pb2, query_pb2, search_pb2

COLLECTION = "hits"
_DOCUMENTS = 200
_CALLS = 400


def measure(bench: Bench) -> Figures:
    """The same search again and again, one at a time: median of the caller's time, less that of
    a call of a server that has its answer ready. Each hit asks the retriever where writes stand."""
    documents = bench.corpus.documents[:_DOCUMENTS]
    bench.callers.run(indexed_passages_per_second, bench.stack.address, COLLECTION, documents)
    noop = bench.lonely.addresses["noop"]
    added, hits, noops = [], [], []
    for turn in range(bench.scale.turns):
        noops.append(1000 * median(bench.callers.run(noop_seconds, noop)))
        hits.append(1000 * median(bench.callers.run(hit_seconds, bench.stack.address)))
        added.append(hits[-1] - noops[-1])
        bench.say(f"hits {turn}: {hits[-1]:.2f} ms, a no-op call {noops[-1]:.2f} ms")
    return {
        "cache_hit_added_ms": median(added),
        "cache_hit_p50_ms": median(hits),
        "noop_call_p50_ms": median(noops),
    }


def hit_seconds(address: str) -> list[float]:
    """Of searches that are answered by what is kept; any other answer is an error."""
    return uvloop.run(_hit_seconds(address))


async def _hit_seconds(address: str) -> list[float]:
    request = search_pb2.SearchRequest(collection=COLLECTION, query="flow over a flat plate")
    seconds = []
    async with searching(address) as stub:
        # All that was written is shown, so that the answer is kept.
        first = search_pb2.SearchRequest()
        first.CopyFrom(request)
        first.consistency = common_pb2.CONSISTENCY_STRONG
        await stub.Search(first)
        for _ in range(_CALLS):
            began = time.perf_counter()
            answer = await stub.Search(request)
            seconds.append(time.perf_counter() - began)
            if answer.cache.status != query_pb2.CACHE_STATUS_EXACT_HIT:
                raise RuntimeError(f"no hit: {answer.cache}")
    return seconds


def noop_seconds(address: str) -> list[float]:
    """Of calls of a server that has its answer ready."""
    return uvloop.run(_noop_seconds(address))


async def _noop_seconds(address: str) -> list[float]:
    request = embedder_pb2.EmbedTextsRequest(texts=["flow over a flat plate"])
    seconds = []
    async with embedding(address) as stub:
        for _ in range(_CALLS):
            began = time.perf_counter()
            await stub.EmbedTexts(request)
            seconds.append(time.perf_counter() - began)
    return seconds
