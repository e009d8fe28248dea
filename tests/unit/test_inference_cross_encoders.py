"""Cross-encoders are told apart, merged, converted and scored as sentence-transformers has them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from services.inference.adapter import read_adapter, write_merged
from services.inference.batch import TokenBatch
from services.inference.cross_encoder import LoadedCrossEncoder, load_cross_encoder
from services.inference.cross_source import cross_encoder_folder
from services.inference.loading import EngineOptions
from services.inference.source import ModelSource, model_folder
from services.reranker.builtin import DEFAULT_MODEL, reranker_folder
from sirdar.errors import FailedPrecondition, NotFound
from tests.reranker_model import builtin_reranker, save_tiny_cross_encoder
from tests.small_model import MINILM, model_cache, save_tiny_model

QUERY = "What is the height of Everest?"
PASSAGES = [
    "Mount Everest is 8,849 metres tall.",
    "Paris is the capital of France.",
    "Everest was first climbed in 1953 by Hillary and Tenzing.",
    "The K2 is the second highest mountain on Earth.",
]
# From the card of the built-in model, of fp32.
LOGITS = [9.86, -2.25, 9.71, -0.36]
IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_cross_encoder(tmp_path_factory.mktemp("tiny") / "model")


def options(cache: Path, engine: str = "openvino") -> EngineOptions:
    return EngineOptions(engine, "fp32", 1, cache)  # type: ignore[arg-type]


def logits(model: LoadedCrossEncoder, query: str, passages: list[str]) -> np.ndarray:
    items = model.tokenizer.encode(query, passages)
    return model.engine.run(TokenBatch.pad(items, model.description.pad_token_id), 0)[:, 0]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.01), ("auto", 0.1)])
def test_built_in_model_gives_the_logits_of_its_card(precision: str, tolerance: float) -> None:
    model = builtin_reranker(precision)
    assert model.description.max_tokens == 320
    assert logits(model, QUERY, PASSAGES) == pytest.approx(LOGITS, abs=tolerance)


def test_merged_adapter_is_a_cross_encoder_for_anyone(tmp_path: Path) -> None:
    adapter = read_adapter(reranker_folder(ModelSource(DEFAULT_MODEL)))
    assert adapter is not None
    write_merged(adapter, tmp_path)
    reference = CrossEncoder(str(tmp_path), device="cpu")
    model = builtin_reranker("fp32")
    # Longer than the window, on each side of the pair.
    passages = [*PASSAGES, "Everest is high. " * 200]
    for query in (QUERY, "how high is it and why " * 60):
        expected = reference.predict([(query, passage) for passage in passages])
        actual = logits(model, query, passages)
        assert model.scores(actual) == pytest.approx(np.asarray(expected), abs=1e-3)


@pytest.mark.usefixtures("convert_here")
@pytest.mark.parametrize(
    ("engine", "activation"),
    [
        ("openvino", IDENTITY),
        ("onnx", IDENTITY),
        ("torch", ""),
        ("torch", "torch.nn.modules.activation.Tanh"),
    ],
)
def test_any_cross_encoder_scores_with_its_own_activation(
    tmp_path: Path, engine: str, activation: str
) -> None:
    folder = save_tiny_cross_encoder(tmp_path / "model", activation=activation)
    model = load_cross_encoder(ModelSource(str(folder)), folder, options(tmp_path, engine))
    passages = ["the wing", "a shock wave of heat", "drag " * 40, "."]
    reference = CrossEncoder(str(folder), device="cpu")
    expected = reference.predict([("flow of the jet", passage) for passage in passages])
    actual = logits(model, "flow of the jet", passages)
    assert np.ptp(actual) > 0.1
    assert model.scores(actual) == pytest.approx(np.asarray(expected), abs=1e-4)
    assert model.parity.good
    items = model.tokenizer.encode("flow of the jet", passages)
    assert [item.truncated for item in items] == [False, False, True, False]
    assert items[2].tokens == 24
    model.close()


async def test_many_passages_are_tokenized_in_their_order() -> None:
    tokenizer = builtin_reranker("fp32").tokenizer
    passages = [f"Summit number {number} of the range." for number in range(150)]
    together = await tokenizer.encode_off_loop(QUERY, passages)
    for item, expected in zip(together, tokenizer.encode(QUERY, passages), strict=True):
        assert item.token_ids.tolist() == expected.token_ids.tolist()


def test_warm_start_imports_no_torch() -> None:
    builtin_reranker()
    program = f"""
import sys
from services.reranker.__main__ import load
from services.reranker.settings import RerankerSettings
load(RerankerSettings(cache_folder={str(model_cache())!r}, engine="openvino"))
heavy = ("torch", "transformers", "sentence_transformers", "huggingface_hub")
print([name for name in heavy if name in sys.modules])
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip().splitlines()[-1] == "[]"


def test_only_the_start_of_a_megabyte_is_tokenized_and_it_says_so() -> None:
    model = builtin_reranker("fp32")
    passage = "Mount Everest is 8,849 metres tall. " * 30_000
    blank = "Mount Everest is 8,849 metres tall." + " " * 1_000_000
    (long, white) = model.tokenizer.encode(QUERY, [passage, blank])
    assert (long.truncated, long.tokens) == (True, 320)
    assert white.truncated
    assert white.token_ids.tolist() == (
        model.tokenizer.encode(QUERY, PASSAGES[:1])[0].token_ids.tolist()
    )


def test_scores_of_any_logit_are_finite() -> None:
    scores = builtin_reranker("fp32").scores(np.array([-1e4, 0, 1e4], np.float32))
    assert scores.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("prefix", ["", "path:"])
def test_bi_encoder_is_refused_as_what_it_is(tmp_path: Path, prefix: str) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    with pytest.raises(FailedPrecondition, match="bi-encoder") as caught:
        cross_encoder_folder(ModelSource(f"{prefix}{folder}"))
    assert caught.value.reason == "MODEL_IS_BI_ENCODER"


def test_installed_bi_encoder_is_refused_as_what_it_is() -> None:
    with pytest.raises(FailedPrecondition, match="the embedder serves it"):
        cross_encoder_folder(ModelSource(MINILM))


def test_encoder_without_a_head_is_refused(tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    with pytest.raises(FailedPrecondition, match="BertModel, without the head"):
        cross_encoder_folder(ModelSource(str(bare)))


def test_model_of_three_labels_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_cross_encoder(tmp_path / "model", labels=3)
    with pytest.raises(FailedPrecondition, match="3 labels a pair"):
        cross_encoder_folder(ModelSource(str(folder)))


def test_saved_cross_encoder_is_a_reranker_and_no_embedder(tiny: Path, tmp_path: Path) -> None:
    CrossEncoder(str(tiny), device="cpu").save_pretrained(str(tmp_path / "saved"))
    source = ModelSource(str(tmp_path / "saved"))
    assert cross_encoder_folder(source) == tmp_path / "saved"
    with pytest.raises(FailedPrecondition, match="the reranker serves it"):
        model_folder(source)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("builtin:none", NotFound, "builtin:minilm-reranker"),
        ("path:/no/such/folder", NotFound, "no folder /no/such/folder"),
        ("path:/tmp", FailedPrecondition, "no config.json"),
        ("package:no-such-package-x", NotFound, "pip install no-such-package-x"),
    ],
)
def test_what_is_no_reranker_is_said_so(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        reranker_folder(ModelSource(name))


def test_torn_adapter_is_one_clear_error(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(reranker_folder(ModelSource(DEFAULT_MODEL)), torn)
    weights = torn / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FailedPrecondition, match=r"adapter\.safetensors is missing or not"):
        read_adapter(torn)


def test_adapter_on_another_base_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(reranker_folder(ModelSource(DEFAULT_MODEL)), copy)
    config = json.loads((copy / "adapter.json").read_text())
    other = save_tiny_model(tmp_path / "tiny")
    (copy / "adapter.json").write_text(json.dumps({**config, "base": f"path:{other}"}))
    with pytest.raises(FailedPrecondition, match="other weights than it was made for"):
        load_cross_encoder(ModelSource("x"), copy, options(tmp_path / "cache"))


def test_plain_cross_encoder_is_no_embedder(tiny: Path) -> None:
    with pytest.raises(FailedPrecondition, match="not a sentence-transformers model"):
        model_folder(ModelSource(str(tiny)))
