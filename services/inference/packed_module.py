"""Modules that take several items in a row, and how it is told that they compute the same.

Imports torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from services.inference.batch import PackedBatch, TokenBatch, TokenizedItem

# A model's code may use positions in ways that no signature tells: what these compute is known,
# and compared before it is used. Others, such as MPNet with its bias by distance, are padded.
_POSITIONS_FROM_0 = {"bert", "electra"}
_POSITIONS_BEHIND_PADDING = {"roberta", "xlm-roberta", "camembert"}
_SAME = 1e-3
# Known inputs to compare with: of all lengths, in a second.
_COMPARED = 24
_COMPARED_WIDTH = 512


class PackedPipeline(torch.nn.Module):
    """A bi-encoder of packed rows: [rows, width] each and places to vectors [items, dimensions]."""

    def __init__(self, model: SentenceTransformer, first_position: int) -> None:
        super().__init__()
        self.model = model
        self.first_position = first_position

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        places: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        transformer, *others = self.model
        features: dict[str, Any] = {
            "input_ids": input_ids,
            "position_ids": position_ids + self.first_position,
            "attention_mask": _own_segment(segment_ids),
            "modality": "text",
        }
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        tokens = transformer(features)["token_embeddings"]
        # As if each item had been a row: any pooling and what follows it stay as they are.
        features = {
            "token_embeddings": _unpacked(tokens, places),
            "attention_mask": (places >= 0).to(torch.int64),
            "modality": "text",
        }
        for module in others:
            features = module(features)
        embedding: torch.Tensor = features["sentence_embedding"]
        return embedding


def packed_pipeline(model: SentenceTransformer) -> PackedPipeline | None:
    """The model for packed rows; None for one of a kind that is not known to allow it."""
    encoder: Any = model[0].model
    kind = encoder.config.model_type
    if kind in _POSITIONS_FROM_0:
        return PackedPipeline(model, 0)
    if kind in _POSITIONS_BEHIND_PADDING:
        return PackedPipeline(model, int(encoder.config.pad_token_id) + 1)
    return None


def same_when_packed(
    plain: torch.nn.Module,
    packed: torch.nn.Module,
    inputs: Sequence[str],
    items: Sequence[TokenizedItem],
) -> bool:
    """Whether both modules make the same of items, each alone and all packed."""
    some = items[:: max(1, len(items) // _COMPARED)]
    width = max(_COMPARED_WIDTH, *(item.tokens for item in some))
    batch = PackedBatch.pack(some, (len(some), width), 0)
    together = packed(**_tensors(batch, packed_inputs(inputs)))
    alone = torch.cat([plain(**_tensors(TokenBatch.pad([item], 0), inputs)) for item in some])
    scale = float(alone.abs().max())
    return bool(np.isfinite(scale)) and float((together - alone).abs().max()) <= _SAME * scale


def packed_inputs(inputs: Sequence[str]) -> tuple[str, ...]:
    """Names of what a packed module takes whose plain one takes `inputs`."""
    packed = ("input_ids", "position_ids", "segment_ids", "places")
    return (*packed, "token_type_ids") if "token_type_ids" in inputs else packed


def _tensors(batch: PackedBatch | TokenBatch, names: Sequence[str]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(getattr(batch, name)) for name in names}


def _own_segment(segment_ids: torch.Tensor) -> torch.Tensor:
    """[rows, 1, width, width]: which tokens each token sees."""
    return segment_ids[:, None, :, None] == segment_ids[:, None, None, :]


def _unpacked(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Each item's tokens as a row: [items, longest, dimensions]."""
    return tokens.reshape(-1, tokens.shape[-1])[places.clamp(min=0)]
