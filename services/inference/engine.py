"""What runs a model: one small interface over OpenVINO, ONNX Runtime and torch."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import TokenBatch

EngineName = Literal["auto", "openvino", "onnx", "torch"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class EngineOutOfMemory(RuntimeError):
    """A batch was too large for the memory of the device; the engine goes on."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine as it was started."""

    name: str
    precision: str
    device: str
    streams: int
    """How many batches it computes at the same time."""
    batch_tokens: int
    """The most padded tokens that one batch may have. Larger ones are not faster."""
    width_step: int = 1
    """Rows that are more than half a step beyond a multiple of it are widened to the next one:
    that is as fast, or faster."""
    max_width: int = 0
    """The most tokens that rows are widened to."""

    def width(self, tokens: int) -> int:
        """How wide a batch is computed whose longest item has so many tokens."""
        beyond = tokens % self.width_step
        if 2 * beyond <= self.width_step:
            return tokens
        return max(tokens, min(tokens - beyond + self.width_step, self.max_width))


class Engine(Protocol):
    """Computes batches. Blocks: called from worker threads only."""

    @property
    def info(self) -> EngineInfo: ...

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        """Rows of the model's output, [rows, dimensions].

        Two calls at the same time must be for different streams. Raises
        EngineOutOfMemory for a batch that may succeed in parts, RuntimeError or
        ValueError when the model fails.
        """
        ...

    def close(self) -> None: ...


def normalize(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1 in float32; a row of zeros stays.

    Normalize inside a graph that runs in bf16 leaves lengths up to 0.4 % off.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    scaled: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))[:, None]
    return scaled
