"""Damaged models, engines that are too far off, and combinations that do not exist."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from services.inference import loading, starting
from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.engine import Engine, EngineInfo, EngineName, Precision
from services.inference.golden import golden_pairs, golden_texts
from services.inference.loading import EngineOptions, load_model
from services.inference.openvino_engine import cpu_precision
from services.inference.parity import MIN_COSINE, compute_all, concordance, cosines
from services.inference.source import ModelSource
from sirdar.cli.main import app
from sirdar.errors import FailedPrecondition, InvalidArgument

pytestmark = pytest.mark.usefixtures("convert_here")


def options(
    cache: Path, engine: EngineName = "torch", precision: Precision = "fp32"
) -> EngineOptions:
    return EngineOptions(engine, precision, 1, cache)


def changed(tiny: Path, folder: Path, drop: str) -> Path:
    """A copy of the model without the tensors whose names contain `drop`."""
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if drop not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_weights_that_are_needed_and_missing_are_named(tiny: Path, tmp_path: Path) -> None:
    torn = changed(tiny, tmp_path / "torn", "layer.1.attention.self.query")
    with pytest.raises(ValueError, match=r"lack 2 weights, such as .*layer\.1.*query\.bias"):
        load_model(ModelSource(str(torn)), options(tmp_path / "cache"))


def test_weights_that_are_never_used_may_be_missing(tiny: Path, tmp_path: Path) -> None:
    bare = changed(tiny, tmp_path / "bare", "pooler")
    model = load_model(ModelSource(str(bare)), options(tmp_path / "cache"))
    whole = load_model(ModelSource(str(tiny)), options(tmp_path / "cache"))
    # Two runs of one model differ in their last bits on some CPUs.
    assert np.allclose(model.golden.vectors, whole.golden.vectors, rtol=0, atol=1e-6)


def test_missing_file_of_a_module_is_an_error(tiny: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(tiny, torn)
    dense = next(
        module["path"]
        for module in json.loads((torn / "modules.json").read_text())
        if "Dense" in module["type"]
    )
    (torn / dense / "model.safetensors").unlink()
    with pytest.raises(Exception, match=r"model\.safetensors|pytorch_model|weights"):
        load_model(ModelSource(str(torn)), options(tmp_path / "cache"))


def test_golden_vectors_and_parity_are_those_of_the_known_texts(tiny: Path, cache: Path) -> None:
    source = ModelSource(str(tiny))
    model = load_model(source, options(cache))
    assert model.golden.texts == golden_texts()
    assert model.golden.vectors.shape == (len(golden_texts()), 16)
    assert model.golden.vectors.dtype == np.float32
    assert model.parity.texts == len(golden_texts())
    assert 1 >= model.parity.min_cosine >= model.parity.required_cosine
    gauge = MIN_COSINE.labels(source.name)
    assert gauge._value.get() == model.parity.min_cosine
    model.close()
    assert (source.name,) not in MIN_COSINE._metrics
    assert model.description.prompts == (("document", "passage: "), ("query", "query: "))


def test_known_inputs_are_varied() -> None:
    texts = golden_texts()
    assert 150 <= len(texts) == len(set(texts))
    assert "" in texts
    assert max(map(len, texts)) > 2_000
    assert any("ก" <= letter <= "๛" for text in texts for letter in text)
    assert len(golden_pairs()) == len(set(golden_pairs())) > 40


class OffEngine:
    """Another engine's rows, turned by so much noise."""

    def __init__(self, engine: Engine, noise: float) -> None:
        self._engine = engine
        self._noise = noise
        self.info: EngineInfo = engine.info

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        rows = self._engine.run(batch, stream)
        generator = np.random.default_rng(rows.shape[0])
        noise = generator.standard_normal(rows.shape, np.float32)
        noisy: NDArray[np.float32] = rows + self._noise * np.abs(rows).mean() * noise
        return noisy

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize(
    ("precision", "noise", "fix"),
    [("fp32", 0.2, "another engine"), ("bf16", 0.2, "such as fp32"), ("fp32", np.nan, "NaN")],
)
def test_engine_that_is_too_far_off_is_not_served(
    tiny: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    noise: float,
    fix: str,
) -> None:
    def start_off(*args: object) -> tuple[object, Engine]:
        found: tuple[object, Engine] = starting.start_engine(*args)  # type: ignore[arg-type]
        return found[0], OffEngine(found[1], noise)

    monkeypatch.setattr(loading, "start_engine", start_off)
    with pytest.raises(FailedPrecondition, match=fix) as caught:
        load_model(ModelSource(str(tiny)), options(cache, precision=precision))
    assert caught.value.reason == ("MODEL_NOT_LOADABLE" if fix == "NaN" else "PARITY_FAILED")


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("openvino", "fp16"), ("onnx", "bf16"), ("onnx", "fp16"), ("torch", "int8")],
)
def test_precision_that_an_engine_has_not_is_refused(
    tiny: Path, cache: Path, engine: EngineName, precision: Precision
) -> None:
    with pytest.raises(InvalidArgument, match="precision"):
        load_model(ModelSource(str(tiny)), options(cache, engine, precision))
    assert not (cache / f"{engine}-{precision}").exists()


def test_bf16_is_refused_where_the_cpu_has_none() -> None:
    if cpu_precision("auto") == "bf16":
        assert cpu_precision("bf16") == "bf16"
    else:
        with pytest.raises(InvalidArgument, match="bf16 is not in this CPU"):
            cpu_precision("bf16")


@pytest.mark.parametrize(
    ("engine", "precision", "package", "extra"),
    [("onnx", "fp32", "onnxruntime", "onnx"), ("openvino", "int8", "nncf", "int8")],
)
def test_engine_that_is_not_installed_says_what_to_install(
    tiny: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineName,
    precision: Precision,
    package: str,
    extra: str,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(FailedPrecondition, match=rf"{package}.*\[{extra}\]") as caught:
        load_model(ModelSource(str(tiny)), options(cache, engine, precision))
    assert caught.value.reason == "ENGINE_NOT_INSTALLED"


def test_command_says_that_nothing_that_was_asked_for_is_installed(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    monkeypatch.setattr(structlog, "configure", lambda **_: None)
    command = ["models", "verify", str(tiny), "--engine", "onnx", "--cache-folder", str(cache)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "not here: the engine onnx needs what is not installed" in result.output
    assert "none of these can run here" in result.output


def test_code_of_a_model_is_another_recipe(tiny: Path, tmp_path: Path) -> None:
    for trust in (False, True):
        load_model(ModelSource(str(tiny)), replace(options(tmp_path), trust_remote_code=trust))
    assert len(list((tmp_path / "torch").iterdir())) == 2


def test_code_that_a_model_brings_is_not_run_unless_asked_for(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    proof = tmp_path / "was-run"
    (folder / "own.py").write_text(
        f"open({str(proof)!r}, 'w')\n"
        "from sentence_transformers.sentence_transformer.modules import Dense\n"
        "class Own(Dense):\n    pass\n"
    )
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        if "Dense" in module["type"]:
            module["type"] = "own.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(Exception, match="own"):
        load_model(ModelSource(str(folder)), options(tmp_path / "cache"))
    assert not proof.exists()
    trusting = replace(options(tmp_path / "cache"), trust_remote_code=True)
    load_model(ModelSource(str(folder)), trusting).close()
    assert proof.exists()


class CountingEngine:
    """Answers how many tokens each row has; the widest batch that it saw."""

    info = EngineInfo("counting", "fp32", "cpu", streams=3, batch_tokens=24)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        self.shapes.append((batch.input_ids.shape[0], batch.input_ids.shape[1]))
        lengths: NDArray[np.float32] = batch.attention_mask.sum(1, np.float32, keepdims=True)
        return lengths

    def close(self) -> None: ...


def test_many_inputs_are_computed_in_their_order_in_bounded_batches() -> None:
    lengths = [3, 9, 1, 30, 7, 7, 2, 24, 5]
    items = [TokenizedItem(np.ones(n, np.int64), np.zeros(n, np.int64)) for n in lengths]
    engine = CountingEngine()
    assert compute_all(engine, items, 0)[:, 0].tolist() == lengths
    assert all(rows == 1 or rows * tokens <= 24 for rows, tokens in engine.shapes)
    assert len(engine.shapes) < len(items)


def test_likeness_of_vectors_and_of_logits() -> None:
    one = np.array([[1, 0], [0, 0], [3, 4]], np.float32)
    other = np.array([[0, 1], [0, 0], [6, 8]], np.float32)
    assert cosines(one, other).tolist() == [0, 1, 1]
    assert np.isnan(cosines(one, np.full_like(one, np.nan))).all()
    logits = np.array([[-2], [0.5], [3]], np.float32)
    assert concordance(logits, logits) == pytest.approx(1)
    assert concordance(logits, -logits) < 0
    assert concordance(logits, logits + 5) < 0.5
    assert concordance(logits, logits * 3) < 0.7
