"""Each engine computes what sentence-transformers computes, for models of well-known shapes."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from services.inference.engine import EngineName, Precision
from services.inference.loading import EngineOptions, load_model
from services.inference.openvino_engine import cpu_precision
from services.inference.parity import compute_all, cosines
from services.inference.source import ModelSource
from tests.model_shapes import SHAPES, save_shape

# Of mixed lengths, so that rows of one batch are padded; the last is longer than the window.
TEXTS = [
    "?",
    "heat transfer in a supersonic boundary layer",
    "The dog barked at the postman all morning.",
    "Der Hund bellte den ganzen Morgen den Briefträger an.",
    "犬は午前中ずっと郵便配達員に吠えていた。",
    "",
    "  two  spaces \n and a line ",
    "the wing of the aircraft " * 40,
]
# Each shape in full precision by each engine. What is lost in the others does not depend on
# the shape: one is enough, the one that has every kind of module.
_EVERY_MODULE = "LaBSE"
COMPARISONS: list[tuple[str, EngineName, Precision, float]] = [
    *((shape, "openvino", "fp32", 0.99999) for shape in SHAPES),
    *((shape, "onnx", "fp32", 0.99999) for shape in SHAPES),
    *((shape, "torch", "fp32", 0.99999) for shape in SHAPES),
    (_EVERY_MODULE, "openvino", "bf16", 0.998),
    (_EVERY_MODULE, "openvino", "int8", 0.95),
    (_EVERY_MODULE, "onnx", "int8", 0.95),
    (_EVERY_MODULE, "torch", "bf16", 0.998),
]
POOLINGS = ("max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens", "cls", "mean")


pytestmark = pytest.mark.usefixtures("convert_here")


@functools.cache
def saved(shape: str) -> Path:
    return save_shape(SHAPES[shape], Path(tempfile.mkdtemp(prefix=f"sirdar-shape-{shape}-")))


def computed(folder: Path, engine: EngineName, precision: Precision, cache: Path) -> np.ndarray:
    model = load_model(ModelSource(str(folder)), EngineOptions(engine, precision, 2, cache))
    try:
        assert model.engine.info.name == engine
        assert model.engine.info.precision == precision
        packs = engine == "openvino" and precision != "int8" and "mpnet" not in str(folder)
        assert bool(model.engine.info.packing) == packs
        items = model.tokenizer.encode(TEXTS)
        return compute_all(model.engine, items, model.description.pad_token_id)
    finally:
        model.close()


@pytest.mark.parametrize(
    ("shape", "engine", "precision", "least"),
    COMPARISONS,
    ids=["-".join(one[:3]) for one in COMPARISONS],
)
def test_engine_equals_sentence_transformers(
    shape: str, engine: EngineName, precision: Precision, least: float, tmp_path: Path
) -> None:
    if (engine, precision) == ("openvino", "bf16") and cpu_precision("auto") != "bf16":
        pytest.skip("NO BF16 HERE: this CPU does not have it; run this on one that has")
    folder = saved(shape)
    expected = np.asarray(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))
    # Not all alike, or the comparison would say nothing.
    assert cosines(expected[1:4], expected[2:5]).min() < 0.995
    actual = computed(folder, engine, precision, tmp_path)
    assert cosines(actual, expected).min() > least
    lengths = np.linalg.norm(actual, axis=1) / np.linalg.norm(expected, axis=1)
    tolerance = {"fp32": 1e-4, "bf16": 0.03, "int8": 0.15}[precision]
    assert lengths == pytest.approx(np.ones(len(TEXTS)), abs=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_description_is_the_models_own(shape: str, tmp_path: Path) -> None:
    options = EngineOptions("torch", "fp32", 1, tmp_path)
    model = load_model(ModelSource(str(saved(shape))), options)
    assert model.description.similarity == SHAPES[shape].similarity
    assert model.description.normalized == SHAPES[shape].normalize
    assert model.description.max_tokens == 48
    model.close()


@pytest.mark.parametrize("engine", ["openvino", "onnx", "torch"])
def test_any_pooling_is_honoured_and_normalize_before_the_end(
    engine: EngineName, tmp_path: Path
) -> None:
    """Of all kinds at once: converting takes seconds, and Dense lets none of them be wrong."""
    whole = SentenceTransformer(str(saved("all-MiniLM")), device="cpu")
    reference = SentenceTransformer(
        modules=[
            whole[0],
            Pooling(32, pooling_mode=POOLINGS),
            Normalize(),
            Dense(32 * len(POOLINGS), 24),
        ],
        device="cpu",
    )
    reference.save_pretrained(str(tmp_path / "model"))
    actual = computed(tmp_path / "model", engine, "fp32", tmp_path / "cache")
    assert actual == pytest.approx(np.asarray(reference.encode(TEXTS)), abs=1e-4)
