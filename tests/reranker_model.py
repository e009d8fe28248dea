"""Cross-encoders for tests: the built-in one, and tiny random ones of other shapes."""

import functools
from pathlib import Path

from services.inference.cross_encoder import LoadedCrossEncoder, load_cross_encoder
from services.inference.loading import EngineOptions
from services.inference.source import ModelSource
from services.reranker.builtin import DEFAULT_MODEL, reranker_folder
from tests.small_model import model_cache, save_tiny_bert


@functools.cache
def builtin_reranker(precision: str = "auto") -> LoadedCrossEncoder:
    """The built-in model in OpenVINO, loaded once for all tests of a run."""
    source = ModelSource(DEFAULT_MODEL)
    options = EngineOptions("openvino", precision, 0, model_cache())  # type: ignore[arg-type]
    return load_cross_encoder(source, reranker_folder(source), options)


def save_tiny_cross_encoder(folder: Path, *, labels: int = 1, activation: str = "") -> Path:
    """A random BERT with a classification head and a window of 24 tokens.

    `activation` is a path such as `torch.nn.modules.linear.Identity`.
    """
    import torch  # noqa: PLC0415 - most tests need no torch
    from transformers import BertForSequenceClassification  # noqa: PLC0415

    config = save_tiny_bert(folder, max_tokens=24)
    torch.manual_seed(3)
    config.num_labels = labels
    # As wide as this its logits differ.
    config.initializer_range = 0.3
    if activation:
        config.sentence_transformers = {"activation_fn": activation}
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
