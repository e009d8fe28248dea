"""The torch engine: its threads, its shapes, and what it does without memory or without a GPU."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import structlog
import torch
from numpy.typing import NDArray

from services.inference import starting, torch_engine
from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import EngineName, EngineOutOfMemory, Precision
from services.inference.kinds import BI_ENCODER
from services.inference.loading import EngineOptions, load_model
from services.inference.source import ModelSource
from services.inference.torch_engine import TorchEngine, bucket_length
from sirdar.errors import FailedPrecondition
from tests.small_model import save_tiny_model

pytestmark = pytest.mark.usefixtures("convert_here")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def options(
    cache: Path, engine: EngineName = "torch", precision: Precision = "fp32"
) -> EngineOptions:
    return EngineOptions(engine, precision, 1, cache)


def test_lengths_are_rounded_up_to_few() -> None:
    rounded = [bucket_length(tokens) for tokens in range(1, 1025)]
    assert all(length >= tokens for tokens, length in enumerate(rounded, 1))
    padding = [1 - tokens / length for tokens, length in enumerate(rounded, 1)]
    assert max(padding[8:]) < 0.3
    assert len(set(rounded)) <= 24


def test_cpu_threads_are_those_of_the_options(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "available_cpus", lambda: 3)
    before = torch.get_num_threads()
    try:
        for threads, used in ((0, 3), (1, 1)):
            load_model(ModelSource(str(tiny)), replace(options(cache), threads=threads)).close()
            with ThreadPoolExecutor(1) as worker:  # batches run on threads that start later
                assert worker.submit(torch.get_num_threads).result() == used
    finally:
        torch.set_num_threads(before)


def test_gpu_that_torch_cannot_use_leaves_the_model_to_openvino(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_has_cuda_device", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with structlog.testing.capture_logs() as logs:
        model = load_model(ModelSource(str(tiny)), options(cache, "auto"))
    assert model.engine.info.name == "openvino"
    assert [entry["log_level"] for entry in logs if "torch cannot use" in entry["event"]] == [
        "warning"
    ]
    model.close()


class SmallMemory(TorchEngine):
    """Has room for so many tokens of a batch, and warms as on a GPU."""

    room = 300

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        if batch.input_ids.size > self.room:
            raise EngineOutOfMemory("no memory")
        return super().run(batch, stream)


def test_batches_become_as_small_as_the_memory_of_the_gpu(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SmallMemory(BI_ENCODER.load(tiny, trust_remote_code=False), "fp32", 1)
    assert engine.info.batch_tokens == 1024
    engine._warm()
    assert engine.info.batch_tokens == 256
    # The window has 48 tokens.
    monkeypatch.setattr(engine, "room", 47)
    with pytest.raises(FailedPrecondition, match="does not fit into the memory") as caught:
        engine._warm()
    assert caught.value.reason == "MODEL_NOT_LOADABLE"


def test_model_beyond_the_memory_of_the_gpu_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", no_memory)
    pipeline = SimpleNamespace(module=torch.nn.Linear(1, 1))
    with pytest.raises(FailedPrecondition, match="set precision to fp16") as caught:
        TorchEngine(pipeline, "fp32", 1)  # type: ignore[arg-type]
    assert caught.value.reason == "MODEL_NOT_LOADABLE"


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU HERE: run this on a machine with CUDA"
)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_streams_compute_what_the_cpu_computes(
    tiny: Path, cache: Path, precision: Precision
) -> None:
    model = load_model(ModelSource(str(tiny)), options(cache, "torch", precision))
    assert model.engine.info.device == "cuda:0"
    assert model.engine.info.streams == 2
    assert model.parity.good
    model.close()


@needs_gpu
def test_batch_beyond_the_memory_of_the_gpu_is_said_so_and_the_engine_goes_on(
    tiny: Path, cache: Path
) -> None:
    model = load_model(ModelSource(str(tiny)), options(cache, "torch", "fp32"))
    assert isinstance(model.engine, TorchEngine)
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
