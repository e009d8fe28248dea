"""The GPU engine, and the CPU reference: the pipeline in torch itself."""

from dataclasses import replace

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import EngineInfo, EngineOutOfMemory, Precision, normalize
from services.inference.kinds import DescriptionT
from services.inference.pipeline import Pipeline
from services.runtime.cpu import available_cpus
from sirdar.errors import FailedPrecondition, InvalidArgument

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH_TOKENS_CPU = 1024
_BATCH_TOKENS_CUDA = 16_384
# While one batch is computed, the next one is laid out and copied.
_CUDA_STREAMS = 2
# Lengths are rounded up to one of these: kernels are chosen and memory is kept by shape.
# Above 8 tokens less than 0.3 of a row is padding.
_LENGTHS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)


class TorchEngine:
    """Runs on CUDA where there is a device, otherwise on the CPU.

    CPU: one stream, which takes `threads` threads. CUDA: two, each with its own queue of the
    device and its own pinned memory.
    """

    def __init__(
        self, pipeline: Pipeline[DescriptionT], precision: Precision = "auto", threads: int = 0
    ) -> None:
        """`threads`: 0 for as many as there are CPUs; torch has one number for all engines of
        the process.

        Raises InvalidArgument for a precision that the device has not, FailedPrecondition
        when the model does not fit into the memory of the device.
        """
        precision = torch_precision(precision)
        cuda = torch.cuda.is_available()
        self._device = torch.device("cuda:0" if cuda else "cpu")
        # torch counts the CPUs of the host, whatever the container may use.
        torch.set_num_threads(threads or available_cpus())
        try:
            self._module = pipeline.module.eval().to(self._device, _DTYPES[precision])
        except torch.OutOfMemoryError as error:
            raise _does_not_fit(self._device) from error
        self._inputs = pipeline.description.inputs
        self._pad_token_id = pipeline.description.pad_token_id
        self._max_tokens = pipeline.description.max_tokens
        self._normalized = pipeline.description.normalized
        self._queues = _cuda_queues(self._device) if cuda else []
        self.info = EngineInfo(
            "torch",
            precision,
            str(self._device),
            streams=_CUDA_STREAMS if cuda else 1,
            batch_tokens=_BATCH_TOKENS_CUDA if cuda else _BATCH_TOKENS_CPU,
        )
        if cuda:
            self._warm()

    @torch.inference_mode()
    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        feed = {name: torch.from_numpy(getattr(batch, name)) for name in self._inputs}
        if self._queues:
            rows = self._run_cuda(feed, self._queues[stream])
        else:
            rows = self._module(**feed).float().numpy()
        return normalize(rows) if self._normalized else rows

    def close(self) -> None:
        del self._module
        if self._queues:
            torch.cuda.empty_cache()

    def _run_cuda(
        self, feed: dict[str, torch.Tensor], queue: torch.cuda.Stream
    ) -> NDArray[np.float32]:
        try:
            with torch.cuda.stream(queue):
                # Pinned memory is copied while the host goes on.
                moved = {
                    name: self._widened(name, tensor)
                    .pin_memory()
                    .to(self._device, non_blocking=True)
                    for name, tensor in feed.items()
                }
                output = self._module(**moved).float()
                rows = torch.empty(output.shape, dtype=torch.float32, pin_memory=True)
                rows.copy_(output, non_blocking=True)
            queue.synchronize()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            shape = "x".join(str(size) for size in next(iter(feed.values())).shape)
            raise EngineOutOfMemory(f"no memory on {self._device} for {shape} tokens") from error
        return rows.numpy()

    def _warm(self) -> None:
        """Runs each length once on each queue, with one row and with as many as a batch has.

        Batches become smaller until all fit into memory. Raises FailedPrecondition when not
        even one row does.
        """
        while True:
            try:
                self._run_lengths()
                return
            except EngineOutOfMemory as error:
                tokens = self.info.batch_tokens // 2
                # One row is run whatever its length: smaller batches would change nothing.
                if tokens < self._max_tokens:
                    raise _does_not_fit(self._device) from error
                log.warning("little memory on the device; smaller batches", batch_tokens=tokens)
                self.info = replace(self.info, batch_tokens=tokens)

    def _run_lengths(self) -> None:
        lengths = {min(length, self._max_tokens) for length in (*_LENGTHS, self._max_tokens)}
        for length in sorted(lengths):
            for rows in {1, max(1, self.info.batch_tokens // length)}:
                ones = np.ones(length, np.int64)
                batch = TokenBatch.pad([TokenizedItem(ones, ones * 0)] * rows, 0)
                for stream in range(self.info.streams):
                    self.run(batch, stream)

    def _widened(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Padded to the next of the lengths that are warm."""
        tokens = tensor.shape[1]
        length = min(bucket_length(tokens), max(self._max_tokens, tokens))
        fill = self._pad_token_id if name == "input_ids" else 0
        return torch.nn.functional.pad(tensor, (0, length - tokens), value=fill)


def _cuda_queues(device: torch.device) -> list[torch.cuda.Stream]:
    return [
        torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for _ in range(_CUDA_STREAMS)
    ]


def _does_not_fit(device: torch.device) -> FailedPrecondition:
    return FailedPrecondition(
        f"the model, or one text as long as its window, does not fit into the memory of {device}; "
        "free memory there, set precision to fp16 or engine to openvino, or use a smaller model",
        reason="MODEL_NOT_LOADABLE",
    )


def bucket_length(tokens: int) -> int:
    """The next of the lengths that batches are padded to; beyond the table a multiple of 128."""
    for length in _LENGTHS:
        if tokens <= length:
            return length
    return -(-tokens // 128) * 128


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
