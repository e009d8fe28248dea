"""The CPU reference: the pipeline in torch itself."""

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.engine import EngineInfo, Precision, normalize
from services.inference.kinds import DescriptionT
from services.inference.pipeline import Pipeline
from services.runtime.cpu import available_cpus
from sirdar.errors import InvalidArgument

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH_TOKENS = 1024


class TorchEngine:
    """One stream, which takes all its threads."""

    def __init__(
        self, pipeline: Pipeline[DescriptionT], precision: Precision, threads: int = 0
    ) -> None:
        """`threads`: 0 for as many as there are CPUs; torch has one number for all engines of
        the process."""
        # torch counts the CPUs of the host, whatever the container may use.
        torch.set_num_threads(threads or available_cpus())
        self._module = pipeline.module.eval().to(TORCH_DTYPES[precision])
        self._inputs = pipeline.description.inputs
        self._normalized = pipeline.description.normalized
        self.info = EngineInfo("torch", precision, "cpu", 1, _BATCH_TOKENS)

    @torch.inference_mode()
    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        feed = {name: torch.from_numpy(getattr(batch, name)) for name in self._inputs}
        rows: NDArray[np.float32] = self._module(**feed).float().numpy()
        return normalize(rows) if self._normalized else rows

    def close(self) -> None:
        del self._module


def torch_precision(asked: Precision) -> Precision:
    """The precision of this machine's device; raises InvalidArgument for one it has not."""
    cuda = torch.cuda.is_available()
    if asked == "auto":
        return "fp16" if cuda else "fp32"
    if asked == "int8":
        raise InvalidArgument.field(
            "precision",
            "int8 is not in the engine torch; set engine to openvino or onnx, or use "
            + ("fp16" if cuda else "fp32"),
            reason="BAD_SETTINGS",
        )
    if asked == "fp16" and not cuda:
        raise InvalidArgument.field(
            "precision", "fp16 needs a GPU; use auto, bf16 or fp32", reason="BAD_SETTINGS"
        )
    if asked == "bf16" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InvalidArgument.field(
            "precision", "bf16 is not in this GPU; use auto, fp16 or fp32", reason="BAD_SETTINGS"
        )
    return asked
