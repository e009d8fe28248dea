"""What must be known of a model to serve it, without loading it by sentence-transformers."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A sentence-transformers pipeline as its own loader resolved it."""

    dimensions: int
    max_tokens: int
    """The longest input, special tokens included; what is longer is cut."""
    pad_token_id: int
    inputs: tuple[str, ...]
    """Of `input_ids`, `attention_mask`, `token_type_ids`, those that the model takes."""
    normalized: bool
    """The pipeline ends with Normalize."""
    query_prompt: str
    document_prompt: str
    default_prompt: str
    """Put in front of texts that are neither query nor document."""
    prompt_names: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ModelDescription":
        """Inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        value: dict[str, Any] = json.loads(text)
        value["inputs"] = tuple(value["inputs"])
        value["prompt_names"] = tuple(value["prompt_names"])
        return cls(**value)
