"""The GPU engine: its memory, what it records, and, where there is a GPU, what it computes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import structlog
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from services.inference import cuda_engine
from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.cuda_engine import CudaEngine
from services.inference.description import Description
from services.inference.device_rows import DeviceRows
from services.inference.engine import EngineOutOfMemory, Precision
from services.inference.kinds import BI_ENCODER
from services.inference.loading import EngineOptions, load_model
from services.inference.parity import compute_all, cosines
from services.inference.source import ModelSource
from services.inference.torch_engine import TorchEngine
from sirdar.errors import FailedPrecondition
from tests.model_shapes import SHAPES, save_shape

pytestmark = pytest.mark.usefixtures("convert_here")


class CpuQueue:
    """Stands where the queue of a GPU does: has room for some tokens, and records some way."""

    room = 300
    off_when_recorded = 0.0

    def __init__(
        self, module: torch.nn.Module, description: Description, device: torch.device
    ) -> None:
        self._rows = DeviceRows(module, description)
        self.recorded: set[tuple[int, int]] = set()

    @torch.inference_mode()
    def run(self, items: Sequence[TokenizedItem], shape: tuple[int, int]) -> NDArray[np.float32]:
        if shape[0] * shape[1] > self.room:
            raise torch.OutOfMemoryError("no memory")
        there = torch.empty(self._rows.numbers(shape), dtype=torch.int64)
        self._rows.put(items, shape, there.numpy())
        rows: NDArray[np.float32] = self._rows.compute(there, shape)[: len(items)].numpy()
        return rows + self.off_when_recorded * (shape in self.recorded)

    def record(self, shapes: Iterable[tuple[int, int]]) -> None:
        self.recorded.update(shapes)

    def forget(self) -> None:
        self.recorded.clear()


def on_cpu(tiny: Path, monkeypatch: pytest.MonkeyPatch, queue: type[CpuQueue]) -> CudaEngine:
    monkeypatch.setattr(cuda_engine, "CudaQueue", queue)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return CudaEngine(BI_ENCODER.load(tiny, trust_remote_code=False), "fp32", "cpu")


def test_batches_become_as_small_as_the_memory_of_the_gpu(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on_cpu(tiny, monkeypatch, CpuQueue)
    assert engine.info.batch_tokens == 256
    assert engine.info.buckets is not None
    assert engine.info.buckets.batch_tokens == 256
    queue = engine._queues[0]
    assert isinstance(queue, CpuQueue)
    assert queue.recorded == set(engine.info.buckets.shapes())
    # The window has 48 tokens.
    monkeypatch.setattr(CpuQueue, "room", 47)
    with pytest.raises(FailedPrecondition, match="does not fit into the memory") as caught:
        on_cpu(tiny, monkeypatch, CpuQueue)
    assert caught.value.reason == "MODEL_NOT_LOADABLE"


def test_rows_that_the_device_makes_are_those_that_the_host_would(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuQueue, "room", 2000)
    pipeline = BI_ENCODER.load(tiny, trust_remote_code=False)
    plain = TorchEngine(pipeline, "fp32", 1)
    engine = on_cpu(tiny, monkeypatch, CpuQueue)
    draw = np.random.default_rng(3)
    for count in (1, 5, 20):
        items = [
            TokenizedItem(draw.integers(0, 50, length), np.zeros(length, np.int64))
            for length in draw.integers(1, 49, count)
        ]
        batch = TokenBatch.pad(items, pipeline.description.pad_token_id)
        assert np.allclose(engine.run(batch, 0), plain.run(batch, 0), atol=1e-6)


def test_model_that_computes_something_else_when_it_is_recorded_runs_without(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuQueue, "off_when_recorded", 1.0)
    with structlog.testing.capture_logs() as logs:
        engine = on_cpu(tiny, monkeypatch, CpuQueue)
    assert [entry["log_level"] for entry in logs if "cannot be recorded" in entry["event"]] == [
        "warning",
        "warning",
    ]
    assert not any(queue.recorded for queue in engine._queues if isinstance(queue, CpuQueue))


def test_model_beyond_the_memory_of_the_gpu_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", no_memory)
    description = SimpleNamespace(normalized=True, pad_token_id=0, max_tokens=48)
    pipeline = SimpleNamespace(module=torch.nn.Linear(1, 1), description=description)
    with pytest.raises(FailedPrecondition, match="set precision to fp16") as caught:
        CudaEngine(pipeline, "fp32")  # type: ignore[arg-type]
    assert caught.value.reason == "MODEL_NOT_LOADABLE"


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU HERE: run this on a machine with CUDA"
)
LEAST: dict[Precision, float] = {"fp32": 0.99999, "fp16": 0.9995, "bf16": 0.998}


@needs_gpu
@pytest.mark.parametrize(
    ("shape", "precision"),
    [*((shape, "fp16") for shape in SHAPES), ("LaBSE", "fp32"), ("LaBSE", "bf16")],
)
def test_cuda_streams_compute_what_the_cpu_computes(
    shape: str, precision: Precision, cache: Path, tmp_path: Path
) -> None:
    folder = save_shape(SHAPES[shape], tmp_path)
    words = ["heat", "transfer", "in", "a", "supersonic", "boundary", "layer", "over", "plates"]
    texts = [" ".join((words * 30)[: 1 + 7 * index % 150]) for index in range(100)]
    model = load_model(ModelSource(str(folder)), EngineOptions("torch", precision, 1, cache))
    try:
        assert model.engine.info.device == "cuda:0"
        assert model.engine.info.streams == 2
        items = model.tokenizer.encode(texts)
        together = compute_all(model.engine, items, model.description.pad_token_id)
        exact = np.asarray(SentenceTransformer(str(folder), device="cpu").encode(texts))
        assert cosines(together, exact).min() >= LEAST[precision]
        for stream in range(2):
            for index in range(0, 100, 9):
                batch = TokenBatch.pad(items[index : index + 5], model.description.pad_token_id)
                rows = model.engine.run(batch, stream)
                assert cosines(rows, exact[index : index + 5]).min() >= LEAST[precision]
    finally:
        model.close()


@needs_gpu
def test_small_batches_are_recorded(tiny: Path, cache: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        model = load_model(ModelSource(str(tiny)), EngineOptions("torch", "fp16", 1, cache))
    assert not [entry for entry in logs if "cannot be recorded" in entry["event"]]
    model.close()


@needs_gpu
def test_batch_beyond_the_memory_of_the_gpu_is_said_so_and_the_engine_goes_on(
    tiny: Path, cache: Path
) -> None:
    model = load_model(ModelSource(str(tiny)), EngineOptions("torch", "fp32", 1, cache))
    few = TokenBatch.pad(model.tokenizer.encode(["the wing"]), 0)
    before = model.engine.run(few, 0)
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        row = TokenizedItem(np.ones(48, np.int64), np.zeros(48, np.int64))
        with pytest.raises(EngineOutOfMemory, match="200000x48"):
            model.engine.run(TokenBatch.pad([row] * 200_000, 0), 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.allclose(model.engine.run(few, 0), before)
    model.close()
