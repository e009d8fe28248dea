"""The reranker beside `CrossEncoder.predict`: same model, pairs and machine, one run.

    make bench-reranker

Three take turns on the same pairs of Cranfield's queries and abstracts:
sentence-transformers as installed (fp32, batches of 32), the tokenizer, batcher
and engine of the reranker in this process, and a reranker in a process of its
own over gRPC, 32 passages a message, 16 messages in flight. Ratios are medians
over the turns.

Then each of `--precisions` reranks the 30 nearest abstracts of all queries:
what it costs in nDCG@10 and gives in speed, beside the first of them. int8 may
be the default only while it loses at most 0.003. The last line is JSON.
"""

import argparse
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
from benchmarks.reranker_precisions import (
    ALLOWED_LOSS,
    batcher_of,
    dense_candidates,
    score_precision,
)
from services.inference.adapter import read_adapter, write_merged
from services.inference.batcher import Batcher, Priority, Work
from services.inference.cross_encoder import LoadedCrossEncoder
from services.inference.source import ModelSource
from services.reranker.__main__ import load
from services.reranker.builtin import DEFAULT_MODEL, reranker_folder
from services.reranker.settings import RerankerSettings
from services.stack.stack import Stack
from services.stack.tiers import TIERS
from sirdar.errors import SirdarError
from sirdar.v1 import reranker_pb2, reranker_pb2_grpc

QUERIES = 12
PASSAGES_A_QUERY = 32
IN_FLIGHT = 16
TURNS = 5


@dataclass(frozen=True, slots=True)
class Message:
    """What one query has to rank."""

    query: str
    passages: list[str]


def candidates(data: Cranfield) -> list[Message]:
    """The judged abstracts of queries, filled up with others in the collection's order."""
    texts = {item.id: f"{item.title}\n{item.text}" for item in data.documents}
    found = []
    for name, query in list(data.queries.items())[:QUERIES]:
        judged = [identity for identity in data.grades.get(name, {}) if identity in texts]
        others = [identity for identity in texts if identity not in judged]
        chosen = [*judged, *others][:PASSAGES_A_QUERY]
        found.append(Message(query, [texts[identity] for identity in chosen]))
    return found


def predict(model: CrossEncoder, work: Sequence[Message]) -> float:
    """Pairs a second of sentence-transformers."""
    pairs = [(one.query, passage) for one in work for passage in one.passages]
    started = time.perf_counter()
    model.predict(pairs, batch_size=32, show_progress_bar=False)
    return len(pairs) / (time.perf_counter() - started)


async def compute(model: LoadedCrossEncoder, batcher: Batcher, work: Sequence[Message]) -> float:
    """Pairs a second of the engine, all of them there from the start."""

    async def score(one: Message) -> None:
        items = await model.tokenizer.encode_off_loop(one.query, one.passages)
        result = await batcher.run(items, Work(Priority.BULK))
        assert not result.failures

    started = time.perf_counter()
    await asyncio.gather(*(score(one) for one in work))
    return _pairs(work) / (time.perf_counter() - started)


async def call(address: str, work: Sequence[Message]) -> float:
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


def _pairs(work: Sequence[Message]) -> int:
    return sum(len(one.passages) for one in work)


async def measure_speed(
    reference: CrossEncoder, model: LoadedCrossEncoder, address: str, data: Cranfield, turns: int
) -> dict[str, float]:
    work = candidates(data)
    rates: list[tuple[float, float, float]] = []
    async with batcher_of(model) as batcher:
        await compute(model, batcher, work[:2])
        await call(address, work[:2])
        predict(reference, work[:2])
        for _ in range(turns):
            slow = predict(reference, work)
            fast = await compute(model, batcher, work)
            served = await call(address, work)
            print(f"pairs/s: predict {slow:.1f}, engine {fast:.1f}, server {served:.1f}")
            rates.append((slow, fast, served))
    return {
        "predict_pairs_per_second": round(median(slow for slow, _, _ in rates), 1),
        "reranker_pairs_per_second": round(median(fast for _, fast, _ in rates), 1),
        "reranker_over_st": round(median(fast / slow for slow, fast, _ in rates), 2),
        "reranker_server_over_engine": round(median(s / fast for _, fast, s in rates), 3),
    }


async def measure_precisions(
    data: Cranfield, precisions: Sequence[str], queries: int
) -> dict[str, float]:
    """Of each that the engine offers, by the name that it gives itself."""
    print(f"finding candidates for {queries} queries", flush=True)
    work = dense_candidates(data, queries)
    result: dict[str, float] = {}
    first = ""
    for asked in precisions:
        try:
            model = load(RerankerSettings.model_validate({"precision": asked}))
        except SirdarError as refused:
            print(f"{asked} is left out: {refused.message}")
            continue
        name = model.engine.info.precision
        score = await score_precision(model, data, work)
        model.close()
        print(
            f"{name}: nDCG@10 {score.ndcg_logits:.4f} by logits, {score.ndcg_fused:.4f} fused, "
            f"{score.pairs_per_second:.1f} pairs/s",
            flush=True,
        )
        result[f"{name}_logits_ndcg10"] = round(score.ndcg_logits, 4)
        result[f"{name}_fused_ndcg10"] = round(score.ndcg_fused, 4)
        result[f"{name}_pairs_per_second"] = round(score.pairs_per_second, 1)
        if not first:
            first = name
        elif name != first:
            loss = max(
                result[f"{first}_{how}_ndcg10"] - result[f"{name}_{how}_ndcg10"]
                for how in ("logits", "fused")
            )
            result[f"{name}_ndcg10_loss"] = round(loss, 4)
            verdict = "within" if loss <= ALLOWED_LOSS else "more than"
            print(f"{name} loses {loss:.4f} against {first}: {verdict} {ALLOWED_LOSS}")
    return result


async def measure(
    reference: CrossEncoder, model: LoadedCrossEncoder, address: str, options: argparse.Namespace
) -> None:
    data = load_cranfield()
    result: dict[str, float] = {}
    if options.turns:
        result = await measure_speed(reference, model, address, data, options.turns)
    names = [name for name in options.precisions.split(",") if name]
    if names:
        result |= await measure_precisions(data, names, options.queries)
    print(json.dumps(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The reranker beside CrossEncoder.predict.")
    parser.add_argument(
        "--turns", type=int, default=TURNS, help="of measuring speed; 0: only precisions"
    )
    parser.add_argument(
        "--queries", type=int, default=225, help="that precisions are compared by; 225: all"
    )
    parser.add_argument(
        "--precisions", default="auto,int8", help="with commas; the first is compared with"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
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
        uvloop.run(measure(reference, model, stack.addresses["reranker"], options))
        model.close()


if __name__ == "__main__":
    main()
