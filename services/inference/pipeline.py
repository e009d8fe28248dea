"""A sentence-transformers model, loaded by sentence-transformers itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from services.inference.description import ModelDescription
from services.inference.golden import golden_texts
from services.inference.kinds import DescriptionT
from services.inference.missing_weights import poison_missing_weights
from services.inference.packed_module import packed_pipeline

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class PipelineModule(torch.nn.Module):
    """The whole pipeline as one module: token ids to sentence embeddings [rows, dimensions]."""

    def __init__(self, model: SentenceTransformer) -> None:
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
        embedding: torch.Tensor = self.model({**features, "modality": "text"})["sentence_embedding"]
        return embedding


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline(Generic[DescriptionT]):
    """A loaded model of any kind with what is needed to feed it."""

    module: torch.nn.Module
    """Takes the description's `inputs`, each int64 [rows, tokens]."""
    tokenizer_json: str
    description: DescriptionT
    reference: Callable[[], NDArray[np.float32]]
    """What sentence-transformers makes of the known inputs, [inputs, dimensions]."""
    missing: tuple[str, ...]
    """Names of weights that the model's files lack; they are NaN."""
    packed: torch.nn.Module | None = None
    """Takes `packed_inputs`; None for a model whose items cannot share a row."""


def load_pipeline(folder: Path, *, trust_remote_code: bool = False) -> Pipeline[ModelDescription]:
    """Loads a model on the CPU in the precision that it was saved in.

    Raises ValueError or TypeError for a model with parts that are not supported, and
    whatever sentence-transformers raises for one that is damaged.
    """
    # Progress bars are for people who wait at a terminal.
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, trust_remote_code=trust_remote_code
    ).eval()
    model.requires_grad_(False)
    transformer = _supported_transformer(model)
    tokenizer: Any = transformer.tokenizer
    prompts = {name: text or "" for name, text in model.prompts.items()}
    accepted = set(tokenizer.model_input_names)
    description = ModelDescription(
        dimensions=int(model.get_embedding_dimension() or 0),
        max_tokens=max_tokens(transformer),
        pad_token_id=int(tokenizer.pad_token_id or 0),
        inputs=tuple(name for name in INPUTS if name in accepted),
        normalized=isinstance(model[-1], Normalize),
        similarity=model.similarity_fn_name,
        prompts=tuple(sorted((name, text) for name, text in prompts.items() if text)),
        **_prompts(prompts, model.default_prompt_name),
    )

    def reference() -> NDArray[np.float32]:
        vectors = model.float().encode_document(list(golden_texts()), show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    return Pipeline(
        PipelineModule(model),
        tokenizer.backend_tokenizer.to_str(),
        description,
        reference,
        poison_missing_weights(transformer, folder, trust_remote_code=trust_remote_code),
        packed_pipeline(model),
    )


def _supported_transformer(model: SentenceTransformer) -> Transformer:
    if not isinstance(model[0], Transformer):
        kind = type(model[0]).__name__
        raise TypeError(f"its first module is {kind}; only Transformer is supported")
    transformer: Transformer = model[0]
    if getattr(transformer.tokenizer, "backend_tokenizer", None) is None:
        raise ValueError("its tokenizer has no fast version")
    if "message" in transformer.modality_config:
        raise ValueError("it takes chat messages; only models of plain text are supported")
    if transformer.query_expansion is not None or transformer.query_length is not None:
        raise ValueError("it treats queries by another length; that is not supported")
    without_prompt = any(isinstance(m, Pooling) and not m.include_prompt for m in model)
    if without_prompt and any(model.prompts.values()):
        raise ValueError("its pooling leaves the prompt out; that is not supported")
    return transformer


def max_tokens(transformer: Transformer) -> int:
    """The longest input of a model, special tokens included."""
    # A tokenizer without a limit says 10**30.
    positions = getattr(transformer.config, "max_position_embeddings", None) or 512
    longest = transformer.max_seq_length or positions
    return int(longest if longest < 1_000_000 else positions)


def _prompts(prompts: Mapping[str, str], default_name: str | None) -> dict[str, str]:
    """The prompts that `encode_query`, `encode_document` and `encode` put in front."""
    default = prompts.get(default_name, "") if default_name else ""
    document = default
    for name in ("document", "passage", "corpus"):
        if name in prompts:
            document = prompts[name]
            break
    return {
        "query_prompt": prompts.get("query", default),
        "document_prompt": document,
        "default_prompt": default,
    }
