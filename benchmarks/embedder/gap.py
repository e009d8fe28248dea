"""What lies between the engine and the fastest matrix product of this machine, and whose it is.

The model's own arithmetic (no padding counted) over the time it took, as a
share of the measured peak. The rest is divided: to the graph (activations,
softmax, norms and products too small for the peak, seen with batches without
padding), to the shapes of real batches, to padding and to tokenizing.
"""

from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.engine import EngineRun
from benchmarks.embedder.peak import ModelArithmetic, has_bf16, matmul_flops
from benchmarks.harness.command import Figures
from services.inference.source import ModelSource, model_folder

_FULL_BATCHES = 16
_FULL_TOKENS = 64
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Gap:
    """Shares of the peak; together with the engine's they make 1."""

    engine: float
    graph: float
    shapes: float
    padding: float
    tokenizing: float

    @classmethod
    def of(cls, run: EngineRun, run_flops: float, full_flops: float, peak: float) -> "Gap":
        """`run_flops` and `full_flops` are a second: of a run, and of full batches without padding.

        What tokenizing and padding cost is in proportion to their seconds and tokens.
        """
        engine = run_flops / peak
        untokenized = engine * run.seconds / (run.seconds - run.tokenizing_seconds)
        unpadded = untokenized * run.padded_tokens / run.tokens
        full = full_flops / peak
        return cls(engine, 1 - full, full - unpadded, unpadded - untokenized, untokenized - engine)


def measure(bench: Bench) -> Figures:
    """The peaks of the machine and the shares of the one in the engine's precision."""
    source = ModelSource(bench.settings.model, bench.settings.model_revision)
    arithmetic = ModelArithmetic.of_folder(model_folder(source))
    texts = bench.texts.mixed
    lengths = [item.tokens for item in bench.engine.model.tokenizer.encode(texts)]
    flops = arithmetic.total_flops(lengths)
    in_bf16 = bench.engine.model.engine.info.precision == "bf16"
    gaps: list[Gap] = []
    peaks: dict[str, list[float]] = {name: [] for name in _DTYPES if name != "bf16" or has_bf16()}
    for turn in range(bench.scale.reference_turns):
        for name, measured in peaks.items():
            measured.append(matmul_flops(_DTYPES[name]))
        run = bench.engine.embed(texts)
        rate = bench.engine.tokens_per_second_of_full_batches(_FULL_TOKENS, _FULL_BATCHES)
        full = rate * arithmetic.flops(_FULL_TOKENS) / _FULL_TOKENS
        peak = peaks["bf16" if in_bf16 else "fp32"][-1]
        gaps.append(Gap.of(run, flops / run.seconds, full, peak))
        bench.say(f"gap {turn}: peak {peak / 1e9:.0f} GFLOP/s; {gaps[-1]}")
    return {
        **{f"matmul_{name}_gflops": median(found) / 1e9 for name, found in peaks.items()},
        "engine_share_of_peak": median(gap.engine for gap in gaps),
        "gap_graph": median(gap.graph for gap in gaps),
        "gap_shapes": median(gap.shapes for gap in gaps),
        "gap_padding": median(gap.padding for gap in gaps),
        "gap_tokenizing": median(gap.tokenizing for gap in gaps),
    }
