"""The engine on the GPU, and sentence-transformers in fp16 beside it."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.embedder.engine import LocalEngine, encode, load_engine, min_cosine
from benchmarks.embedder.peak import ModelArithmetic
from benchmarks.embedder.texts import Texts, repeated
from benchmarks.gpu.busy import busy_while
from benchmarks.gpu.scale import Scale
from benchmarks.harness.command import Figures
from services.embedder.settings import EmbedderSettings
from services.inference.batch import TokenizedItem
from services.inference.engine import Precision

# Of these sentence-transformers has the better one: the first is its default.
_ENCODE_BATCHES = (32, 512)
# More than the window of all-MiniLM-L6-v2 takes.
_LONG_WORDS = 300
_PEAK_SIZE = 8192
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def measure(folder: Path, precision: Precision, texts: Texts, scale: Scale) -> Figures:
    """The figures of a precision, of short and of long texts."""
    engine = LocalEngine(load_engine(EmbedderSettings(engine="torch", precision=precision)))
    peak = _peak_flops(_DTYPES[precision])
    arithmetic = ModelArithmetic.of_folder(folder)
    reference = SentenceTransformer(str(folder), device="cuda").half()
    figures: Figures = {f"{precision}_peak_tflops": peak / 1e12}
    for kind, some in _by_length(texts, scale.texts).items():
        items = engine.tokenize(some)
        lengths = [item.tokens for item in items]
        engine.embed(some)
        rates, shares, ratios = [], [], []
        for turn in range(scale.turns):
            rate, busy = busy_while(scale.seconds, partial(_tokens_per_second, engine, items))
            rates.append(rate)
            shares.append(busy)
            slow = max(encode(reference, some, batch)[0] for batch in _ENCODE_BATCHES)
            ratios.append(engine.embed(some).texts_per_second / slow)
            print(
                f"{precision}, {kind} texts, {turn}: {rates[-1] / 1e6:.2f} million tokens/s, "
                f"busy {busy:.2f}, sentence-transformers {slow:.0f} texts/s, "
                f"engine {ratios[-1]:.2f} times that",
                flush=True,
            )
        flops = arithmetic.total_flops(lengths) / sum(lengths)
        figures |= {
            f"{precision}_{kind}_tokens_per_second": median(rates),
            f"{precision}_{kind}_busy": median(shares),
            f"{precision}_{kind}_of_peak": median(rates) * flops / peak,
            f"{precision}_{kind}_over_st": median(ratios),
        }
    exact = SentenceTransformer(str(folder), device="cuda")
    rows = engine.embed(texts.mixed).rows
    figures[f"{precision}_min_cosine"] = min_cosine(rows, encode(exact, texts.mixed)[1])
    alone = engine.seconds_alone(texts.short)
    figures[f"{precision}_alone_ms"] = 1000 * median(alone)
    engine.close()
    return figures


def _by_length(texts: Texts, count: int) -> dict[str, list[str]]:
    words = " ".join(texts.mixed).split()
    windows = [
        " ".join(words[at : at + _LONG_WORDS])
        for at in range(0, len(words) - _LONG_WORDS, _LONG_WORDS)
    ]
    return {"short": repeated(texts.short, count), "long": repeated(windows, count // 4)}


def _tokens_per_second(engine: LocalEngine, items: Sequence[TokenizedItem]) -> float:
    started = time.perf_counter()
    engine.compute(items)
    return sum(item.tokens for item in items) / (time.perf_counter() - started)


def _peak_flops(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two 8192 x 8192 matrices."""
    first, second = (torch.randn(_PEAK_SIZE, _PEAK_SIZE, device="cuda").to(dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        torch.cuda.synchronize()
        started = time.perf_counter()
        torch.mm(first, second)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * _PEAK_SIZE**3 / median(seconds[2:])
