"""The kinds of models that engines run, and how each is loaded by torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from services.inference.description import CrossEncoderDescription, Description, ModelDescription

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


def _load_bi_encoder(folder: Path, *, trust_remote_code: bool) -> "Pipeline[ModelDescription]":
    from services.inference.pipeline import load_pipeline  # noqa: PLC0415 - imports torch

    return load_pipeline(folder, trust_remote_code=trust_remote_code)


def _load_cross_encoder(
    folder: Path, *, trust_remote_code: bool
) -> "Pipeline[CrossEncoderDescription]":
    from services.inference.cross_pipeline import load_cross_pipeline  # noqa: PLC0415 - likewise

    return load_cross_pipeline(folder, trust_remote_code=trust_remote_code)


BI_ENCODER = ModelKind("bi-encoder", ModelDescription, _load_bi_encoder)
CROSS_ENCODER = ModelKind("cross-encoder", CrossEncoderDescription, _load_cross_encoder)
KINDS: dict[str, ModelKind[Any]] = {kind.name: kind for kind in (BI_ENCODER, CROSS_ENCODER)}
