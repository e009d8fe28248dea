"""What runs a model: one small interface over OpenVINO, ONNX Runtime and torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.buckets import Buckets
from services.inference.packing import Packing

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
    packing: Packing | None = None
    """Set where several items share a row, in the order of the batch."""
    buckets: Buckets | None = None
    """Set where rows and widths are rounded up."""

    @property
    def layout(self) -> Packing | Buckets | None:
        """What decides the shapes of batches besides their longest item."""
        return self.packing or self.buckets

    def mean_width(self, lengths: Sequence[int]) -> float:
        """Tokens an item that are computed for items of these lengths, padding included."""
        if self.packing:
            rows, width = self.packing.shape(lengths)
        elif self.buckets:
            rows, width = self.buckets.shape(len(lengths), max(lengths))
        else:
            return self.width(max(lengths))
        return rows * width / len(lengths)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of items that are all there, batch by batch: alike in length, or packed."""
        if self.packing:
            return self.packing.batches(lengths)
        found: list[list[int]] = []
        width = 0
        # The longest first, so that streams end at about the same time.
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            if not found or (len(found[-1]) + 1) * width > self.batch_tokens:
                found.append([])
                width = self.width(lengths[index])
            found[-1].append(index)
        return found

    def width(self, tokens: int) -> int:
        """How wide a row is computed of a batch whose longest item has so many tokens."""
        if self.buckets:
            return self.buckets.width(tokens)
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
