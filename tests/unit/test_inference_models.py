"""Models are found, converted, cached and described as sentence-transformers itself has them."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

from services.inference import model_cache
from services.inference.batch import TokenBatch
from services.inference.conversion import convert
from services.inference.fingerprint import content_digest
from services.inference.kinds import BI_ENCODER
from services.inference.loading import EngineOptions, LoadedModel, load_model
from services.inference.model_cache import converted_model
from services.inference.recipe import Recipe
from services.inference.source import ModelSource, model_folder
from sirdar.errors import FailedPrecondition, NotFound
from tests import small_model
from tests.small_model import MINILM, minilm, save_tiny_model

TEXTS = [
    "heat transfer in a supersonic boundary layer",
    "A",
    "Über die Strömung: drag of a FLAT plate!",
    "the wing " * 300,
]
RECIPE = Recipe("openvino")


@pytest.fixture(scope="module")
def tiny_cache(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that has the tiny model converted already."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_cache, "convert_in_child", convert)
        converted_model(BI_ENCODER, RECIPE, cache, tiny, content_digest(tiny))
    return cache


def options(cache: Path, engine: str = "openvino", precision: str = "fp32") -> EngineOptions:
    return EngineOptions(engine, precision, 1, cache)  # type: ignore[arg-type]


def vectors(model: LoadedModel, texts: list[str]) -> np.ndarray:
    items = model.tokenizer.encode(texts)
    return model.engine.run(TokenBatch.pad(items, model.description.pad_token_id), 0)


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_real_model_equals_sentence_transformers(precision: str) -> None:
    model = minilm(precision)
    reference = SentenceTransformer(str(model_folder(ModelSource(MINILM))), device="cpu")
    expected = np.asarray(reference.encode(TEXTS))
    actual = vectors(model, TEXTS)
    assert least_cosine(actual, expected) > 0.9995
    assert np.allclose(np.linalg.norm(actual, axis=1), 1, atol=1e-6)


@pytest.mark.usefixtures("convert_here")
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_prompts_pooling_dense_and_length_are_honoured(
    tiny: Path, tiny_cache: Path, engine: str
) -> None:
    model = load_model(ModelSource(str(tiny)), options(tiny_cache, engine))
    reference = SentenceTransformer(str(tiny), device="cpu")
    description = model.description
    assert (description.dimensions, description.max_tokens) == (16, 48)
    assert not description.normalized
    assert description.prompt_names == ("document", "query")
    for prompt, encode in (
        (description.query_prompt, reference.encode_query),
        (description.document_prompt, reference.encode_document),
        (description.default_prompt, reference.encode),
    ):
        actual = vectors(model, [prompt + text for text in TEXTS])
        assert np.allclose(actual, np.asarray(encode(TEXTS)), atol=1e-4)
    items = model.tokenizer.encode(TEXTS)
    assert [item.truncated for item in items] == [False, False, False, True]
    assert items[3].tokens == 48
    model.close()


def test_warm_start_imports_no_torch() -> None:
    minilm()
    program = f"""
import sys
from pathlib import Path
from services.inference.kinds import BI_ENCODER
from services.inference.loading import EngineOptions, load_model
from services.inference.recipe import Recipe
from services.inference.source import ModelSource
options = EngineOptions("openvino", "auto", 0, Path({str(small_model.model_cache())!r}))
load_model(ModelSource({MINILM!r}), options)
heavy = ("torch", "transformers", "sentence_transformers", "huggingface_hub")
print([name for name in (*heavy, "openvino_telemetry") if sys.modules.get(name)])
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip().splitlines()[-1] == "[]"


def test_openvino_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    program = "from services.inference.openvino_runtime import openvino; openvino.Core()"
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "HOME": str(tmp_path)}, check=True
    )
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_is_of_the_content_not_of_the_place(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    assert content_digest(copy) == content_digest(tiny)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({"_name_or_path": "/x", **config}, indent=7))
    (copy / "README.md").write_text("another card")
    assert content_digest(copy) == content_digest(tiny)


@pytest.mark.parametrize("file", ["model.safetensors", "config_sentence_transformers.json"])
def test_other_weights_or_prompts_are_another_space(tiny: Path, tmp_path: Path, file: str) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1, query_prompt="search: ")
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    shutil.copy(other / file, copy / file)
    assert content_digest(copy) != content_digest(tiny)


def test_an_adapter_that_counts_otherwise_is_another_space(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)

    def digest(**changed: object) -> str:
        config = {"r": 8, "lora_alpha": 16, "peft_version": "0.17.0", **changed}
        (copy / "adapter_config.json").write_text(json.dumps(config))
        return content_digest(copy)

    assert digest(peft_version="0.18.0") == digest()
    assert digest(lora_alpha=32) != digest()


@pytest.mark.usefixtures("convert_here")
def test_engine_and_precision_do_not_change_the_fingerprint(tiny: Path, tiny_cache: Path) -> None:
    models = [
        load_model(ModelSource(f"path:{tiny}"), options(tiny_cache, engine, precision))
        for engine, precision in (("openvino", "fp32"), ("openvino", "auto"), ("torch", "fp32"))
    ]
    assert len({model.fingerprint for model in models}) == 1


@pytest.mark.usefixtures("convert_here")
def test_torn_cache_entry_is_rebuilt(tiny: Path, tiny_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_cache, tmp_path, dirs_exist_ok=True)
    digest = content_digest(tiny)
    graph = converted_model(BI_ENCODER, RECIPE, tmp_path, tiny, digest).graph_file
    weights = graph.with_suffix(".bin")
    good = weights.read_bytes()
    weights.write_bytes(good[: len(good) // 2])
    assert converted_model(BI_ENCODER, RECIPE, tmp_path, tiny, digest).graph_file == graph
    assert weights.read_bytes() == good
    assert [entry.name for entry in graph.parent.parent.iterdir()] == [graph.parent.name]


def test_two_processes_may_convert_the_same_model(
    tiny: Path, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = content_digest(tiny)
    done = converted_model(BI_ENCODER, RECIPE, tiny_cache, tiny, digest).graph_file.parent
    both_convert = Barrier(2, timeout=20)

    def copy(kind: object, recipe: object, folder: Path, target: Path) -> None:
        for file in done.iterdir():
            if file.name != "manifest.json":
                shutil.copy(file, target)
        both_convert.wait()

    monkeypatch.setattr(model_cache, "convert_in_child", copy)
    with ThreadPoolExecutor(2) as threads:
        both = list(
            threads.map(
                lambda _: converted_model(BI_ENCODER, RECIPE, tmp_path, tiny, digest), range(2)
            )
        )
    assert both[0].graph_file == both[1].graph_file
    assert len(list((tmp_path / "openvino").iterdir())) == 1


def test_torn_weights_are_one_clear_error(tiny: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(tiny, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FailedPrecondition, match="cannot be loaded") as caught:
        load_model(ModelSource(str(torn)), options(tmp_path / "cache"))
    assert caught.value.reason == "MODEL_NOT_LOADABLE"
    assert "\n" not in caught.value.message


@pytest.mark.usefixtures("convert_here")
def test_model_that_answers_nan_is_not_served(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = load_file(broken / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = np.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="NaN"):
        load_model(ModelSource(str(broken)), options(tmp_path / "cache", "torch"))


def test_missing_weights_are_a_clear_error(tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    (bare / "model.safetensors").unlink()
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_model(ModelSource(str(bare)), options(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("package:no-such-package-x", NotFound, "pip install no-such-package-x"),
        ("package:pytest", FailedPrecondition, "no modules.json"),
        ("path:/no/such/folder", NotFound, "no folder /no/such/folder"),
        ("path:/tmp", FailedPrecondition, "not a sentence-transformers model"),
    ],
)
def test_what_is_no_model_is_said_so(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        model_folder(ModelSource(name))


def test_hub_model_without_network_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FailedPrecondition, match="hub cannot be reached"):
        model_folder(ModelSource("sentence-transformers/no-such-model"))


def test_unwritable_cache_folder_is_named(tiny: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(FailedPrecondition, match="cache_folder"):
        load_model(ModelSource(str(tiny)), options(taken))
