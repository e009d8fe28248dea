"""The reranker beside `CrossEncoder.predict`: same model, pairs and machine, one run.

    make bench-reranker

Three take turns on the same pairs of Cranfield's queries and abstracts:
sentence-transformers as installed (fp32, batches of 32), the tokenizer, batcher
and engine of the reranker in this process, and a reranker in a process of its
own over gRPC, 32 passages a message, 16 messages in flight. Ratios are medians
over the turns. The last line is JSON.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
import uvloop
from sentence_transformers import CrossEncoder

from benchmarks.cranfield import Cranfield, load_cranfield
from services.inference.adapter import read_adapter, write_merged
from services.inference.batcher import Batcher, Priority, QueueLimits
from services.inference.cross_encoder import LoadedCrossEncoder
from services.inference.source import ModelSource
from services.reranker.__main__ import load
from services.reranker.builtin import DEFAULT_MODEL, reranker_folder
from services.reranker.settings import RerankerSettings
from services.stack.stack import Stack
from services.stack.tiers import TIERS
from sirdar.v1 import reranker_pb2, reranker_pb2_grpc

QUERIES = 12
PASSAGES_A_QUERY = 32
IN_FLIGHT = 16
TURNS = 5


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one query has to rank."""

    query: str
    passages: list[str]


def candidates(data: Cranfield) -> list[Candidates]:
    """The judged abstracts of queries, filled up with others in the collection's order."""
    texts = {item.id: f"{item.title}\n{item.text}" for item in data.documents}
    found = []
    for name, query in list(data.queries.items())[:QUERIES]:
        judged = [identity for identity in data.grades.get(name, {}) if identity in texts]
        others = [identity for identity in texts if identity not in judged]
        chosen = [*judged, *others][:PASSAGES_A_QUERY]
        found.append(Candidates(query, [texts[identity] for identity in chosen]))
    return found


def predict(model: CrossEncoder, work: Sequence[Candidates]) -> float:
    """Pairs a second of sentence-transformers."""
    pairs = [(one.query, passage) for one in work for passage in one.passages]
    started = time.perf_counter()
    model.predict(pairs, batch_size=32, show_progress_bar=False)
    return len(pairs) / (time.perf_counter() - started)


async def compute(model: LoadedCrossEncoder, batcher: Batcher, work: Sequence[Candidates]) -> float:
    """Pairs a second of the engine, all of them there from the start."""

    async def score(one: Candidates) -> None:
        items = await model.tokenizer.encode_off_loop(one.query, one.passages)
        result = await batcher.run(items, Priority.BULK)
        assert not result.failures

    started = time.perf_counter()
    await asyncio.gather(*(score(one) for one in work))
    return _pairs(work) / (time.perf_counter() - started)


async def call(address: str, work: Sequence[Candidates]) -> float:
    """Pairs a second of the server."""
    requests = [
        reranker_pb2.RerankPassagesRequest(
            options=reranker_pb2.RerankOptions(query=one.query),
            passages=[reranker_pb2.RerankPassage(text=text) for text in one.passages],
        )
        for one in work
    ]
    waiting = iter(requests)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: reranker_pb2_grpc.RerankerServiceAsyncStub = (
            reranker_pb2_grpc.RerankerServiceStub(channel)  # type: ignore[assignment]
        )

        async def worker() -> None:
            for request in waiting:
                await stub.RerankPassages(request)

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        return _pairs(work) / (time.perf_counter() - started)


def _pairs(work: Sequence[Candidates]) -> int:
    return sum(len(one.passages) for one in work)


async def measure(reference: CrossEncoder, model: LoadedCrossEncoder, address: str) -> None:
    work = candidates(load_cranfield())
    rates: list[tuple[float, float, float]] = []
    batcher = Batcher(
        DEFAULT_MODEL,
        model.engine,
        pad_token_id=model.description.pad_token_id,
        dimensions=1,
        limits=QueueLimits(items=10**6, tokens=10**9),
    )
    async with batcher:
        await compute(model, batcher, work[:2])
        await call(address, work[:2])
        predict(reference, work[:2])
        for _ in range(TURNS):
            slow = predict(reference, work)
            fast = await compute(model, batcher, work)
            served = await call(address, work)
            print(f"pairs/s: predict {slow:.1f}, engine {fast:.1f}, server {served:.1f}")
            rates.append((slow, fast, served))
    result = {
        "predict_pairs_per_second": round(median(slow for slow, _, _ in rates), 1),
        "reranker_pairs_per_second": round(median(fast for _, fast, _ in rates), 1),
        "reranker_over_st": round(median(fast / slow for slow, fast, _ in rates), 2),
        "reranker_server_over_engine": round(median(s / fast for _, fast, s in rates), 3),
    }
    print(json.dumps(result))


def main() -> None:
    adapter = read_adapter(reranker_folder(ModelSource(DEFAULT_MODEL)))
    assert adapter is not None
    tiers = [tier for tier in TIERS if tier.name == "reranker"]
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as merged,
        Stack(Path(folder), tiers=tiers) as stack,
    ):
        write_merged(adapter, Path(merged))
        reference = CrossEncoder(merged, device="cpu")
        model = load(RerankerSettings())
        uvloop.run(measure(reference, model, stack.addresses["reranker"]))
        model.close()


if __name__ == "__main__":
    main()
