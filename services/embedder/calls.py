"""What callers ask for, without gRPC."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from services.embedder.spaces import VectorForm
from services.inference.work import Work


class InputType(enum.Enum):
    """What texts are; models put a different prompt in front of each."""

    UNSPECIFIED = "unspecified"
    QUERY = "query"
    DOCUMENT = "document"


class Truncation(enum.Enum):
    """What becomes of a text that is longer than the model's window."""

    END = "end"
    """Its end is cut."""
    START = "start"
    """Its start is cut; the prompt stays."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model is to answer, and in which space."""

    name: str = ""
    """Empty: the default."""
    revision: str = ""
    expected_fingerprint: str = ""
    """Empty: any."""


@dataclass(frozen=True, slots=True)
class TextsCall:
    """Texts to embed."""

    model: ModelChoice
    texts: Sequence[str]
    input_type: InputType
    prompt_name: str | None
    """A prompt of the model by its name; goes before `input_type`."""
    truncation: Truncation
    form: VectorForm
    work: Work


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to split and embed."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class DocumentsCall:
    """Documents to split and embed."""

    model: ModelChoice
    documents: Sequence[SourceDocument]
    form: VectorForm
    work: Work
