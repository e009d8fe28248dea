"""Whether an engine computes what sentence-transformers computes, told from known inputs."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine
from sirdar.errors import FailedPrecondition

MIN_COSINE = Gauge(
    "sirdar_inference_parity_min_cosine",
    "Lowest cosine of the known texts' vectors to those of sentence-transformers in fp32; of a "
    "cross-encoder Lin's concordance of its logits.",
    ["model"],
)

# Lowest cosines over the known texts of all-MiniLM-L6-v2: fp32 1 - 2e-12, int8 0.966 by
# OpenVINO and 0.972 by ONNX Runtime, of a single letter; over ordinary texts int8 has 0.988
# to 0.994 and bf16 more than 0.9999. The bars leave room for deeper models.
REQUIRED_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.998, "int8": 0.95}


@dataclass(frozen=True, slots=True)
class Parity:
    """How near an engine is to the reference over the known inputs."""

    min_cosine: float
    """Of a cross-encoder the concordance of its logits (Lin, 1989)."""
    required_cosine: float
    texts: int
    """Known texts, or pairs of a cross-encoder."""

    @property
    def good(self) -> bool:
        """False also for NaN."""
        return self.min_cosine >= self.required_cosine


def vector_parity(
    engine: Engine, actual: NDArray[np.float32], golden: NDArray[np.float32]
) -> Parity:
    """Of vectors [texts, dimensions], by the lowest cosine of a text's two vectors."""
    return Parity(
        float(cosines(actual, golden).min()), REQUIRED_COSINE[engine.info.precision], len(golden)
    )


def logit_parity(
    engine: Engine, actual: NDArray[np.float32], golden: NDArray[np.float32]
) -> Parity:
    """Of logits [pairs, 1], by their concordance."""
    return Parity(concordance(actual, golden), REQUIRED_COSINE[engine.info.precision], len(golden))


def check_parity(model: str, engine: Engine, parity: Parity) -> None:
    """Tells Prometheus; raises FailedPrecondition for an engine that is too far off.

    A model that is refused shows in no metric: only the error says how far.
    """
    if parity.good:
        MIN_COSINE.labels(model).set(parity.min_cosine)
        return
    precision = engine.info.precision
    fix = (
        "convert it again (delete it from cache_folder) or use another engine"
        if precision == "fp32"
        else "set precision to one that keeps more, such as fp32"
    )
    raise FailedPrecondition(
        f"model {model} in {precision} by {engine.info.name} is too far from "
        f"sentence-transformers in fp32: {parity.min_cosine:.5f} over {parity.texts} known inputs, "
        f"{parity.required_cosine} is the least; {fix}",
        reason="PARITY_FAILED",
    )


def forget_parity(model: str) -> None:
    """Takes a model that is no longer served out of the metrics."""
    with contextlib.suppress(KeyError):
        MIN_COSINE.remove(model)


def compute_all(
    engine: Engine, items: Sequence[TokenizedItem], pad_token_id: int
) -> NDArray[np.float32]:
    """Rows [items, dimensions] of many inputs, on all streams at once; blocks."""
    batches = engine.info.batches([item.tokens for item in items])

    def run_stream(stream: int) -> list[NDArray[np.float32]]:
        return [
            engine.run(TokenBatch.pad([items[index] for index in batch], pad_token_id), stream)
            for batch in batches[stream :: engine.info.streams]
        ]

    with ThreadPoolExecutor(engine.info.streams) as threads:
        by_stream = list(threads.map(run_stream, range(engine.info.streams)))
    first = by_stream[0][0]
    rows = np.empty((len(items), *first.shape[1:]), np.float32)
    for stream, results in enumerate(by_stream):
        for batch, result in zip(batches[stream :: engine.info.streams], results, strict=True):
            rows[batch] = result
    return rows


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row with the same row of the other, [rows]; two rows of zeros are alike."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = np.einsum("ij,ij->i", first, second)
    alike = np.all(first == second, axis=1)
    result: NDArray[np.float64] = np.where(alike, 1.0, products / np.where(lengths > 0, lengths, 1))
    return result


def concordance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """1 where both are equal; less for another order, scale or offset."""
    first, second = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    spread = first.var() + second.var() + (first.mean() - second.mean()) ** 2
    if spread == 0:
        return 1.0
    shared = ((first - first.mean()) * (second - second.mean())).mean()
    return float(2 * shared / spread)
