"""The torch engine on the CPU: its threads, and a GPU that it cannot use."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch

from services.inference import starting, torch_engine
from services.inference.engine import EngineName, Precision
from services.inference.loading import EngineOptions, load_model
from services.inference.source import ModelSource

pytestmark = pytest.mark.usefixtures("convert_here")


def options(
    cache: Path, engine: EngineName = "torch", precision: Precision = "fp32"
) -> EngineOptions:
    return EngineOptions(engine, precision, 1, cache)


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
