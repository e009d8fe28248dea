"""A cross-encoder, loaded by sentence-transformers itself."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer

from services.inference.adapter import read_adapter, write_merged
from services.inference.description import ActivationName, CrossEncoderDescription
from services.inference.golden import golden_pairs
from services.inference.missing_weights import poison_missing_weights
from services.inference.pipeline import INPUTS, Pipeline, max_tokens

_ACTIVATIONS: dict[type[torch.nn.Module], ActivationName] = {
    torch.nn.Identity: "identity",
    torch.nn.Sigmoid: "sigmoid",
    torch.nn.Tanh: "tanh",
}


class LogitModule(torch.nn.Module):
    """The whole cross-encoder as one module: token ids of pairs to logits [rows, 1]."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        features: dict[str, object] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        logits: torch.Tensor = self.model({**features, "modality": "text"})["scores"]
        return logits.reshape(-1, 1)


def load_cross_pipeline(
    folder: Path, *, trust_remote_code: bool = False
) -> Pipeline[CrossEncoderDescription]:
    """Loads a cross-encoder or an adapter on the CPU.

    Raises ValueError or TypeError for a model with parts that are not supported, and
    whatever sentence-transformers raises for one that is damaged.
    """
    adapter = read_adapter(folder)
    if adapter is None:
        return _load(folder, trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="sirdar-merged-") as merged:
        write_merged(adapter, Path(merged))
        return _load(Path(merged), trust_remote_code)


def _load(folder: Path, trust_remote_code: bool) -> Pipeline[CrossEncoderDescription]:
    # Progress bars are for people who wait at a terminal.
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = CrossEncoder(
        str(folder), device="cpu", local_files_only=True, trust_remote_code=trust_remote_code
    ).eval()
    model.requires_grad_(False)
    transformer = model[0]
    if not isinstance(transformer, Transformer):
        kind = type(transformer).__name__
        raise TypeError(f"its first module is {kind}; only Transformer is supported")
    tokenizer: Any = transformer.tokenizer
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError("its tokenizer has no fast version")
    if model.num_labels != 1:
        raise ValueError(f"it gives {model.num_labels} labels a pair; a reranker gives one")
    if model.default_prompt_name:
        raise ValueError("it puts a prompt in front of pairs; that is not supported")
    accepted = set(tokenizer.model_input_names)
    description = CrossEncoderDescription(
        max_tokens=max_tokens(transformer),
        pad_token_id=int(tokenizer.pad_token_id or 0),
        inputs=tuple(name for name in INPUTS if name in accepted),
        activation=_activation(model),
    )

    def reference() -> NDArray[np.float32]:
        logits = model.float().predict(
            list(golden_pairs()), activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return np.asarray(logits, np.float32).reshape(-1, 1)

    return Pipeline(
        LogitModule(model),
        tokenizer.backend_tokenizer.to_str(),
        description,
        reference,
        poison_missing_weights(transformer, folder, trust_remote_code=trust_remote_code),
        # Pairs are long and alike: a row each is 1.18 times as fast as packed rows.
        packed=None,
    )


def _activation(model: CrossEncoder) -> ActivationName:
    """What `CrossEncoder.predict` puts on logits by default."""
    kind = type(model.activation_fn)
    if kind not in _ACTIVATIONS:
        known = ", ".join(one.__name__ for one in _ACTIVATIONS)
        raise ValueError(f"its activation is {kind.__name__}; known are {known}")
    return _ACTIVATIONS[kind]
