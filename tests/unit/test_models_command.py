"""`sirdar models verify` compares engines as a server would load them, and its exit code tells."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import structlog
from typer.testing import CliRunner, Result

from services.inference import parity
from sirdar.cli.main import app
from tests.reranker_model import save_tiny_cross_encoder
from tests.small_model import save_tiny_model

pytestmark = pytest.mark.usefixtures("convert_here")


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def verify(name: object, cache: Path, *options: str) -> Result:
    command = ["models", "verify", str(name), "--cache-folder", str(cache), *options]
    return CliRunner().invoke(app, command)


def test_engines_of_a_good_model_are_good(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    result = verify(folder, tmp_path / "cache", "--engine", "torch")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert rows[0][:2] == ["engine", "precision"]
    assert [row[:2] for row in rows[1:3]] == [["torch", "fp32"], ["torch", "bf16"]]
    assert [row[-1] for row in rows[1:3]] == ["good", "good"]
    assert float(rows[1][2]) > 0.99999


def test_cross_encoder_is_verified_as_one(tmp_path: Path) -> None:
    folder = save_tiny_cross_encoder(tmp_path / "tiny")
    result = verify(folder, tmp_path / "cache", "--engine", "torch", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert "good" in result.output


def test_engine_below_the_bar_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parity.REQUIRED_COSINE, "bf16", 1.1)
    folder = save_tiny_model(tmp_path / "tiny")
    result = verify(folder, tmp_path / "cache", "--engine", "torch", "--precision", "bf16")
    assert result.exit_code == 1
    assert "bad: model" in result.output
    assert "1.1 is the least" in result.output


def test_precision_that_was_asked_for_and_is_not_here_ends_with_1(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    result = verify(folder, tmp_path, "--engine", "onnx", "--precision", "int8")
    assert result.exit_code == 0, result.output
    result = verify(folder, tmp_path, "--engine", "openvino", "--precision", "fp16")
    assert result.exit_code == 1
    assert "openvino has no fp16" in result.output


def test_hub_model_without_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    result = verify("sentence-transformers/LaBSE", tmp_path)
    assert result.exit_code == 1
    assert "the hub cannot be reached" in result.output
    assert len(result.output.strip().splitlines()) == 1
