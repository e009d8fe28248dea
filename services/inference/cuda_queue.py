"""A queue of the GPU: copies a batch there, has it computed, and copies its rows back.

Imports torch.
"""

import contextlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenizedItem
from services.inference.description import Description
from services.inference.device_rows import DeviceRows, Shape


class CudaQueue:
    """Runs a module on one CUDA stream, with its own pinned memory; for one thread at a time.

    The host starts the hundred kernels of a small model in 3 ms, the GPU computes a small batch
    in a tenth of that: shapes are recorded as CUDA graphs, each started with one call.
    """

    def __init__(
        self, module: torch.nn.Module, description: Description, device: torch.device
    ) -> None:
        self._rows = DeviceRows(module, description)
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._here = torch.empty(0, dtype=torch.int64)
        # Graphs read where they did when they were recorded.
        self._read = torch.empty(0, dtype=torch.int64, device=device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Shape, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    @torch.inference_mode()
    def run(self, items: Sequence[TokenizedItem], shape: Shape) -> NDArray[np.float32]:
        """[items, dimensions] of a batch that is computed in a shape with room for it.

        Raises torch.OutOfMemoryError.
        """
        with torch.cuda.stream(self._stream):
            # Pinned memory is copied while the host goes on.
            here = self._laid_out(items, shape)
            if recorded := self._graphs.get(shape):
                graph, output = recorded
                self._read[: len(here)].copy_(here, non_blocking=True)
                graph.replay()
            else:
                output = self._rows.compute(here.to(self._device, non_blocking=True), shape)
            rows = torch.empty((len(items), output.shape[1]), dtype=torch.float32, pin_memory=True)
            rows.copy_(output[: len(items)], non_blocking=True)
        self._stream.synchronize()
        return rows.numpy()

    @torch.inference_mode()
    def record(self, shapes: Iterable[Shape]) -> None:
        """Records graphs of shapes that each have run before.

        Raises RuntimeError for a model whose code copies from the host or waits for the device.
        """
        # The largest first: the others are recorded into its memory.
        by_size = sorted(shapes, key=math.prod, reverse=True)
        most = max(map(self._rows.numbers, by_size))
        self._read = torch.zeros(most, dtype=torch.int64, device=self._device)
        with torch.cuda.stream(self._stream):
            for shape in by_size:
                graph = torch.cuda.CUDAGraph()
                # Other models of this process go on meanwhile.
                graph.capture_begin(self._pool, capture_error_mode="thread_local")
                try:
                    output = self._rows.compute(self._read[: self._rows.numbers(shape)], shape)
                except Exception:
                    with contextlib.suppress(RuntimeError):  # says that there was an error
                        graph.capture_end()
                    raise
                graph.capture_end()
                self._graphs[shape] = graph, output

    def forget(self) -> None:
        """Frees the graphs."""
        self._graphs.clear()

    def _laid_out(self, items: Sequence[TokenizedItem], shape: Shape) -> torch.Tensor:
        numbers = self._rows.numbers(shape)
        if len(self._here) < numbers:
            self._here = torch.empty(numbers, dtype=torch.int64, pin_memory=True)
        here = self._here[:numbers]
        self._rows.put(items, shape, here.numpy())
        return here
