"""The GPU engine, and the CPU reference: the pipeline in torch itself."""

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.engine import EngineInfo, Precision, normalize
from services.inference.kinds import DescriptionT
from services.inference.pipeline import Pipeline

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH_TOKENS_CPU = 1024
_BATCH_TOKENS_CUDA = 16_384


class TorchEngine:
    """Runs on CUDA where there is a device, otherwise on the CPU. One stream."""

    def __init__(self, pipeline: Pipeline[DescriptionT], precision: Precision = "auto") -> None:
        cuda = torch.cuda.is_available()
        self._device = torch.device("cuda:0" if cuda else "cpu")
        if precision == "auto":
            precision = "fp16" if cuda else "fp32"
        self._module = pipeline.module.to(self._device, _DTYPES[precision])
        self._inputs = pipeline.description.inputs
        self._normalized = pipeline.description.normalized
        self.info = EngineInfo(
            "torch",
            precision,
            str(self._device),
            streams=1,
            batch_tokens=_BATCH_TOKENS_CUDA if cuda else _BATCH_TOKENS_CPU,
        )

    @torch.inference_mode()
    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        feed = {name: self._tensor(getattr(batch, name)) for name in self._inputs}
        rows: NDArray[np.float32] = self._module(**feed).float().cpu().numpy()
        return normalize(rows) if self._normalized else rows

    def close(self) -> None:
        del self._module

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            # Pinned memory is copied while the host goes on.
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor
