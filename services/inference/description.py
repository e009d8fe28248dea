"""What must be known of a model to serve it, without loading it by sentence-transformers."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

ActivationName = Literal["identity", "sigmoid", "tanh"]
SimilarityName = Literal["cosine", "dot", "euclidean", "manhattan"]


class Description(Protocol):
    """What descriptions of all kinds of models say."""

    @property
    def max_tokens(self) -> int: ...
    @property
    def pad_token_id(self) -> int: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def normalized(self) -> bool: ...
    def to_json(self) -> str: ...
    @classmethod
    def from_json(cls, text: str) -> Self: ...


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
    similarity: SimilarityName
    """What the model was trained for."""
    query_prompt: str
    document_prompt: str
    default_prompt: str
    """Put in front of texts that are neither query nor document."""
    prompts: tuple[tuple[str, str], ...]
    """Every prompt that the model names and is not empty: its name and its text, by name."""

    @property
    def prompt_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.prompts)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ModelDescription":
        """Inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        value: dict[str, Any] = json.loads(text)
        value["inputs"] = tuple(value["inputs"])
        value["prompts"] = tuple((str(name), str(text)) for name, text in value["prompts"])
        return cls(**value)


@dataclass(frozen=True, slots=True)
class CrossEncoderDescription:
    """A cross-encoder as sentence-transformers resolved it: pairs of texts to one logit each."""

    max_tokens: int
    """The longest pair, special tokens included; of what is longer the passage is cut."""
    pad_token_id: int
    inputs: tuple[str, ...]
    """As of `ModelDescription`."""
    activation: ActivationName
    """Makes a score of a logit."""

    @property
    def normalized(self) -> bool:
        """False: a logit has a length that means something."""
        return False

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "CrossEncoderDescription":
        """Inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        value: dict[str, Any] = json.loads(text)
        value["inputs"] = tuple(value["inputs"])
        return cls(**value)
