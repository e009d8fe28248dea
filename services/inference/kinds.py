"""The kinds of models that engines run, and how each is loaded by torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from services.inference.description import CrossEncoderDescription, Description, ModelDescription

if TYPE_CHECKING:
    from services.inference.pipeline import Pipeline

DescriptionT = TypeVar("DescriptionT", bound=Description)


@dataclass(frozen=True, slots=True)
class ModelKind(Generic[DescriptionT]):
    """A kind of model. `load` imports torch, which takes seconds and half a gigabyte."""

    name: str
    description: type[DescriptionT]
    load: Callable[[Path], "Pipeline[DescriptionT]"]


def _load_bi_encoder(folder: Path) -> "Pipeline[ModelDescription]":
    from services.inference.pipeline import load_pipeline  # noqa: PLC0415 - imports torch

    return load_pipeline(folder)


def _load_cross_encoder(folder: Path) -> "Pipeline[CrossEncoderDescription]":
    from services.inference.cross_pipeline import load_cross_pipeline  # noqa: PLC0415 - likewise

    return load_cross_pipeline(folder)


BI_ENCODER = ModelKind("bi-encoder", ModelDescription, _load_bi_encoder)
CROSS_ENCODER = ModelKind("cross-encoder", CrossEncoderDescription, _load_cross_encoder)
KINDS: dict[str, ModelKind[Any]] = {kind.name: kind for kind in (BI_ENCODER, CROSS_ENCODER)}
