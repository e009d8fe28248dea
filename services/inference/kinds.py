"""The kinds of models that engines run, and how each is loaded by torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from services.inference.batch import TokenizedItem
from services.inference.description import CrossEncoderDescription, Description, ModelDescription
from services.inference.golden import golden_pairs, golden_texts
from services.inference.pair_tokenizer import PairTokenizer
from services.inference.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from services.inference.pipeline import Pipeline

DescriptionT = TypeVar("DescriptionT", bound=Description)


class PipelineLoader(Protocol[DescriptionT]):
    """Loads the model in a folder; with `trust_remote_code` also one that brings its own code."""

    def __call__(self, folder: Path, *, trust_remote_code: bool) -> "Pipeline[DescriptionT]": ...


@dataclass(frozen=True, slots=True)
class ModelKind(Generic[DescriptionT]):
    """A kind of model. `load` imports torch, which takes seconds and half a gigabyte."""

    name: str
    description: type[DescriptionT]
    load: PipelineLoader[DescriptionT]
    golden_items: Callable[[str, DescriptionT], list[TokenizedItem]]
    """The known inputs by a tokenizer.json, as `Pipeline.reference` has them."""


def _load_bi_encoder(folder: Path, *, trust_remote_code: bool) -> "Pipeline[ModelDescription]":
    from services.inference.pipeline import load_pipeline  # noqa: PLC0415 - imports torch

    return load_pipeline(folder, trust_remote_code=trust_remote_code)


def _load_cross_encoder(
    folder: Path, *, trust_remote_code: bool
) -> "Pipeline[CrossEncoderDescription]":
    from services.inference.cross_pipeline import load_cross_pipeline  # noqa: PLC0415 - likewise

    return load_cross_pipeline(folder, trust_remote_code=trust_remote_code)


def golden_documents(
    tokenizer: TextTokenizer, description: ModelDescription
) -> list[TokenizedItem]:
    """The known texts, each behind the document prompt."""
    return tokenizer.encode([description.document_prompt + text for text in golden_texts()])


def golden_pair_items(tokenizer: PairTokenizer) -> list[TokenizedItem]:
    """The known pairs."""
    return [tokenizer.encode(query, [passage])[0] for query, passage in golden_pairs()]


def _text_items(tokenizer_json: str, description: ModelDescription) -> list[TokenizedItem]:
    tokenizer = TextTokenizer(tokenizer_json, description.max_tokens)
    return golden_documents(tokenizer, description)


def _pair_items(tokenizer_json: str, description: CrossEncoderDescription) -> list[TokenizedItem]:
    return golden_pair_items(PairTokenizer(tokenizer_json, description.max_tokens))


BI_ENCODER = ModelKind("bi-encoder", ModelDescription, _load_bi_encoder, _text_items)
CROSS_ENCODER = ModelKind(
    "cross-encoder", CrossEncoderDescription, _load_cross_encoder, _pair_items
)
KINDS: dict[str, ModelKind[Any]] = {kind.name: kind for kind in (BI_ENCODER, CROSS_ENCODER)}
