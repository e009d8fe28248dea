"""The GPU engine: the pipeline in torch on CUDA."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.buckets import Buckets
from services.inference.cuda_queue import CudaQueue
from services.inference.engine import EngineInfo, EngineOutOfMemory, Precision
from services.inference.kinds import DescriptionT
from services.inference.pipeline import Pipeline
from services.inference.torch_engine import TORCH_DTYPES
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_BATCH_TOKENS = 32_768
# While one batch is computed, the next one is laid out and copied.
_STREAMS = 2
# A recorded batch may differ so much, by other kernels: of the largest number in its rows.
_SAME = 0.02


class CudaEngine:
    """Two streams, each with its own queue of the device."""

    def __init__(
        self, pipeline: Pipeline[DescriptionT], precision: Precision, device: str = "cuda:0"
    ) -> None:
        """Raises FailedPrecondition when the model does not fit into the memory of the device."""
        self._device = torch.device(device)
        description = pipeline.description
        self.info = EngineInfo(
            "torch",
            precision,
            device,
            _STREAMS,
            _BATCH_TOKENS,
            buckets=Buckets(_BATCH_TOKENS, description.max_tokens),
        )
        try:
            module = pipeline.module.eval().to(self._device, TORCH_DTYPES[precision])
        except torch.OutOfMemoryError as error:
            raise self._does_not_fit() from error
        self._queues = [CudaQueue(module, description, self._device) for _ in range(_STREAMS)]
        self._fit()
        for queue in self._queues:
            self._record(queue)

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        return self._run(self._queues[stream], batch.items)

    def close(self) -> None:
        del self._queues
        torch.cuda.empty_cache()

    def _run(self, queue: CudaQueue, items: Sequence[TokenizedItem]) -> NDArray[np.float32]:
        shape = self._buckets.shape(len(items), max(item.tokens for item in items))
        try:
            return queue.run(items, shape)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise EngineOutOfMemory(
                f"no memory on {self._device} for {shape[0]}x{shape[1]} tokens"
            ) from error

    @property
    def _buckets(self) -> Buckets:
        assert self.info.buckets is not None
        return self.info.buckets

    def _fit(self) -> None:
        """Runs all shapes on each queue.

        Batches become smaller until they fit into memory. Raises FailedPrecondition when not
        even one row does.
        """
        while True:
            try:
                # The largest first: if that does not fit, the others need not be tried.
                for shape in sorted(self._buckets.shapes(), key=math.prod, reverse=True):
                    items = _items(*shape)
                    for queue in self._queues:
                        self._run(queue, items)
                return
            except EngineOutOfMemory as error:
                tokens = self.info.batch_tokens // 2
                # One row is run whatever its length: smaller batches would change nothing.
                if tokens < self._buckets.max_tokens:
                    raise self._does_not_fit() from error
                log.warning("little memory on the device; smaller batches", batch_tokens=tokens)
                buckets = replace(self._buckets, batch_tokens=tokens)
                self.info = replace(self.info, batch_tokens=tokens, buckets=buckets)

    def _record(self, queue: CudaQueue) -> None:
        """Records all shapes of a model that then computes the same as before."""
        shapes = self._buckets.shapes()
        checked = [(1, width) for width in self._buckets.widths()]
        try:
            before = [self._run(queue, _items(*shape)) for shape in checked]
            queue.record(shapes)
            for shape, rows in zip(checked, before, strict=True):
                difference = np.abs(self._run(queue, _items(*shape)) - rows).max()
                if not difference <= _SAME * np.abs(rows).max():
                    raise RuntimeError(f"{shape} is off by {difference} when it is recorded")
        # Whatever this model's code does that cannot be recorded, it runs without.
        except RuntimeError as error:
            queue.forget()
            log.warning("the model cannot be recorded; small batches are slower", error=str(error))

    def _does_not_fit(self) -> FailedPrecondition:
        return FailedPrecondition(
            "the model, or one text as long as its window, does not fit into the memory of "
            f"{self._device}; free memory there, set precision to fp16 or engine to openvino, or "
            "use a smaller model",
            reason="MODEL_NOT_LOADABLE",
        )


def _items(rows: int, width: int) -> list[TokenizedItem]:
    """Of tokens by chance; the first row is full."""
    draw = np.random.default_rng(rows * width)
    lengths = [width, *draw.integers(1, width + 1, rows - 1)]
    return [
        TokenizedItem(draw.integers(0, 2, length), np.zeros(length, np.int64)) for length in lengths
    ]
