"""How much arithmetic the model is, and how much this machine does at best."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

_SIZE = 2048
_TURNS = 5


def matmul_flops(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two 2048 x 2048 matrices, all threads."""
    first = torch.randn(_SIZE, _SIZE).to(dtype)
    second = torch.randn(_SIZE, _SIZE).to(dtype)
    for _ in range(2):
        torch.mm(first, second)
    seconds = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - started)
    return 2 * _SIZE**3 / median(seconds)


def has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; emulated it is slower than float32."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


@dataclass(frozen=True, slots=True)
class ModelArithmetic:
    """The products of a BERT encoder: layers, width of a token and of the feed-forward part."""

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def of_folder(cls, folder: Path) -> "ModelArithmetic":
        """Of the model whose config.json is in `folder`."""
        config = json.loads((folder / "config.json").read_text())
        return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])

    def flops(self, tokens: int) -> int:
        """Of one text, multiplications and additions counted apart.

        A layer has four products of a token with a hidden x hidden matrix
        (query, key, value, output), two with hidden x intermediate, and each
        token's attention multiplies with every token twice.
        """
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        attention = 2 * tokens * self.hidden
        return 2 * self.layers * tokens * (weights + attention)

    def total_flops(self, lengths: Sequence[int]) -> int:
        """Of texts with so many tokens each, without padding."""
        return sum(self.flops(tokens) for tokens in lengths)
