"""A model in every engine and precision of this machine, against sentence-transformers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.inference.cross_encoder import load_cross_encoder
from services.inference.cross_source import cross_encoder_folder
from services.inference.engine import EngineName, Precision
from services.inference.loading import load_model
from services.inference.parity import Parity
from services.inference.source import ModelSource, model_folder
from services.inference.starting import EngineOptions
from sirdar.errors import FailedPrecondition, InvalidArgument, SirdarError

_COMBINATIONS: tuple[tuple[EngineName, Precision], ...] = (
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torch", "fp16"),
)
Verdict = Literal["good", "bad", "not here"]


@dataclass(frozen=True, slots=True)
class Verification:
    """How one engine did."""

    engine: EngineName
    precision: Precision
    verdict: Verdict
    """`not here`: this machine or installation has no such engine or precision."""
    parity: Parity | None
    """None where it did not come to a comparison, or failed it; `why` says more."""
    why: str = ""


def combinations(
    engine: EngineName, precision: Precision
) -> tuple[tuple[EngineName, Precision], ...]:
    """The engines and precisions that are meant; `auto` for all of them."""
    return tuple(
        one for one in _COMBINATIONS if engine in {"auto", one[0]} and precision in {"auto", one[1]}
    )


def verify(source: ModelSource, options: EngineOptions) -> Iterator[Verification]:
    """Loads the model by each engine and precision that `options` mean, as a server does.

    The reference is what sentence-transformers made of the known texts when the model was
    converted. Raises NotFound or FailedPrecondition when there is no such model.
    """
    cross_encoder = _is_cross_encoder(source)
    for engine, precision in combinations(options.engine, options.precision):
        one = EngineOptions(
            engine, precision, options.threads, options.cache_folder, options.trust_remote_code
        )
        try:
            parity = _parity(source, one, cross_encoder=cross_encoder)
        except InvalidArgument as error:
            yield Verification(engine, precision, "not here", None, error.message)
        except FailedPrecondition as error:
            missing = error.reason == "ENGINE_NOT_INSTALLED"
            verdict: Verdict = "not here" if missing else "bad"
            yield Verification(engine, precision, verdict, None, error.message)
        else:
            yield Verification(engine, precision, "good", parity)


def _is_cross_encoder(source: ModelSource) -> bool:
    try:
        model_folder(source)
    except FailedPrecondition as error:
        if error.reason == "MODEL_NOT_FETCHED":
            raise
        try:
            cross_encoder_folder(source)
        except SirdarError:
            raise error from None  # says what an embedder needs, which most models are for
        return True
    return False


def _parity(source: ModelSource, options: EngineOptions, *, cross_encoder: bool) -> Parity:
    if cross_encoder:
        scorer = load_cross_encoder(source, cross_encoder_folder(source), options)
        scorer.close()
        return scorer.parity
    model = load_model(source, options)
    model.close()
    return model.parity
