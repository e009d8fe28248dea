"""A CPU engine for comparison, and for CPUs where OpenVINO is slower: ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.engine import EngineInfo, Precision, normalize
from services.runtime.cpu import available_cpus
from sirdar.errors import FailedPrecondition, InvalidArgument

# As OpenVINO's: the same kernels' worth of work a batch.
_BATCH_TOKENS = 768


class OnnxEngine:
    """One session, which threads may share; each call computes on the thread that makes it."""

    def __init__(
        self,
        graph_file: Path,
        inputs: tuple[str, ...],
        *,
        normalized: bool,
        precision: Precision = "auto",
        threads: int = 0,
    ) -> None:
        """`graph_file` is in `precision` already. `threads`: 0 for as many as there are CPUs.

        Raises FailedPrecondition when ONNX Runtime cannot read the graph.
        """
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Plans of memory are kept for each shape, and shapes are many.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
                graph_file, options, providers=["CPUExecutionProvider"]
            )
        # Its own exceptions have no base of theirs.
        except Exception as error:
            raise FailedPrecondition(
                f"ONNX Runtime cannot read {graph_file}: {str(error).splitlines()[0]}; "
                "delete the cache folder and start again",
                reason="MODEL_NOT_LOADABLE",
            ) from error
        # What the model does not use is not in the graph.
        taken = {node.name for node in self._session.get_inputs()}
        self._inputs = tuple(name for name in inputs if name in taken)
        self._normalized = normalized
        self.info = EngineInfo(
            "onnx", onnx_precision(precision), "cpu", threads or available_cpus(), _BATCH_TOKENS
        )

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        if self._session is None:
            raise RuntimeError("the engine is closed")
        feed = {name: getattr(batch, name) for name in self._inputs}
        rows: NDArray[np.float32] = self._session.run(None, feed)[0]
        return normalize(rows) if self._normalized else rows

    def close(self) -> None:
        self._session = None


def onnx_precision(asked: Precision) -> Precision:
    """The precision that the engine computes in; raises InvalidArgument for one it has not."""
    if asked in {"bf16", "fp16"}:
        raise InvalidArgument.field(
            "precision",
            f"{asked} is not in the engine onnx; use fp32 or int8",
            reason="BAD_SETTINGS",
        )
    return "fp32" if asked == "auto" else asked
