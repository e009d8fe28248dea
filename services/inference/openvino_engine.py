"""The CPU engine: a converted pipeline in OpenVINO."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.batch import PackedBatch, TokenBatch, TokenizedItem
from services.inference.description import Description
from services.inference.engine import EngineInfo, Precision, normalize
from services.inference.openvino_runtime import openvino
from services.inference.packing import Packing
from services.runtime.cpu import available_cpus, has_amx
from sirdar.errors import FailedPrecondition, InvalidArgument

# all-MiniLM-L6-v2 in bf16, texts of mixed length on two cores: 357 texts/s at 256 padded
# tokens a batch, 370 at 512, 390 at 768 and 1,024, 340 at 2,048. The smaller the batch,
# the sooner the next one starts: 768 take 55 ms on one core. A cross-encoder of the same
# size on pairs of 160 tokens: 162 pairs/s at 384, 171 at 768, 177 at 1,536, 159 at 4,096.
_BATCH_TOKENS = 768
# The matrix units of AMX take 16 rows of 32 numbers: all-MiniLM-L6-v2 in bf16 needs 2.80 ms for
# a row of 60 tokens and 2.31 for one of 64, 3.39 for 76 and 2.96 for 80, but 2.14 for 52.
# Without them time grows evenly with the width, as in fp32: 7.9 ms for 60, 8.1 for 64.
_AMX_WIDTH_STEP = 16
_PACKED_INPUTS = {"input_ids", "position_ids", "segment_ids", "places", "token_type_ids"}


class OpenVinoEngine:
    """One request object a stream; as many streams as CPUs, one thread each."""

    def __init__(
        self,
        graph_file: Path,
        description: Description,
        *,
        precision: Precision = "auto",
        threads: int = 0,
    ) -> None:
        """`threads`: 0 for as many as this process has CPUs.

        Raises FailedPrecondition when OpenVINO cannot read or compile the graph.
        """
        core = openvino.Core()
        threads = threads or available_cpus()
        precision = cpu_precision(precision)
        # What is not quantized in an int8 graph is computed in the fastest other precision.
        hint = cpu_precision("auto") if precision == "int8" else precision
        try:
            compiled = core.compile_model(
                graph_file,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(hint, hint),
                    "NUM_STREAMS": str(threads),
                    "INFERENCE_NUM_THREADS": str(threads),
                    # Pinned, several processes on a host share one core, many times slower.
                    "ENABLE_CPU_PINNING": "NO",
                },
            )
        except RuntimeError as error:
            raise FailedPrecondition(
                f"OpenVINO cannot compile {graph_file}: {str(error).splitlines()[0]}; "
                "delete the cache folder and start again",
                reason="MODEL_NOT_LOADABLE",
            ) from error
        # What the model does not use is not in the graph.
        taken = {name for node in compiled.inputs for name in node.get_names()}
        packed = "segment_ids" in taken
        self._inputs = tuple(sorted(taken & (_PACKED_INPUTS if packed else {*description.inputs})))
        self._normalized = description.normalized
        self._pad_token_id = description.pad_token_id
        self._requests: list[Any] = [compiled.create_infer_request() for _ in range(threads)]
        self.info = EngineInfo(
            "openvino",
            precision,
            "cpu",
            threads,
            _BATCH_TOKENS,
            width_step=_AMX_WIDTH_STEP if precision == "bf16" and has_amx() else 1,
            max_width=description.max_tokens,
            packing=Packing(_BATCH_TOKENS) if packed else None,
        )
        # The first inference initialises statics of the binding under the GIL: two first
        # ones at the same time deadlock (seen with openvino 2026.4.1).
        item = TokenizedItem(np.zeros(1, np.int64), np.zeros(1, np.int64))
        for stream in range(threads):
            self.run(TokenBatch.pad([item], 0), stream)

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        laid_out: TokenBatch | PackedBatch
        if self.info.packing:
            shape = self.info.packing.shape([item.tokens for item in batch.items])
            laid_out = PackedBatch.pack(batch.items, shape, self._pad_token_id)
        else:
            laid_out = batch.widened(self.info.width(batch.width))
        feed = {name: getattr(laid_out, name) for name in self._inputs}
        result = self._requests[stream].infer(feed, share_inputs=True, share_outputs=True)
        rows: NDArray[np.float32] = result[0]
        # The output is the request's own memory, overwritten by its next inference.
        return normalize(rows) if self._normalized else rows.copy()

    def close(self) -> None:
        self._requests.clear()


def cpu_precision(asked: Precision) -> Precision:
    """The precision that this CPU computes in; raises InvalidArgument for one it has not."""
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked == "auto":
        return "bf16" if has_bf16 else "fp32"
    if asked == "fp16":
        raise InvalidArgument.field(
            "precision", "fp16 needs a GPU; use auto, bf16 or fp32", reason="BAD_SETTINGS"
        )
    if asked == "bf16" and not has_bf16:
        # OpenVINO would compute in fp32 and not say so.
        raise InvalidArgument.field(
            "precision", "bf16 is not in this CPU; use auto, fp32 or int8", reason="BAD_SETTINGS"
        )
    return asked
