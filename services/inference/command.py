"""The command `sirdar models`."""

import enum
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    # Loaded when the command runs: `sirdar --help` reads this module, too.
    from services.inference.verification import Verification


class Action(enum.Enum):
    VERIFY = "verify"


class EngineChoice(enum.Enum):
    ALL = "all"
    OPENVINO = "openvino"
    ONNX = "onnx"
    TORCH = "torch"


class PrecisionChoice(enum.Enum):
    ALL = "all"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


def models(
    action: Annotated[
        Action, typer.Argument(help="verify: compare each engine to sentence-transformers.")
    ],
    name: Annotated[str, typer.Argument(help="A Hugging Face name, path:/folder or package:name.")],
    engine: Annotated[EngineChoice, typer.Option(help="Only this one.")] = EngineChoice.ALL,
    precision: Annotated[
        PrecisionChoice, typer.Option(help="Only this one.")
    ] = PrecisionChoice.ALL,
    revision: Annotated[str, typer.Option(help="A hub revision.")] = "",
    cache_folder: Annotated[
        Path | None,
        typer.Option(help="Where converted models are kept.", show_default="the user's cache"),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")
    ] = False,
) -> None:
    """Compare a model's engines to sentence-transformers; exit code 1 when one is too far off."""
    import platformdirs
    import structlog

    from services.inference.source import ModelSource
    from services.inference.starting import EngineOptions
    from services.inference.verification import verify
    from sirdar.errors import SirdarError

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    options = EngineOptions(
        "auto" if engine is EngineChoice.ALL else engine.value,
        "auto" if precision is PrecisionChoice.ALL else precision.value,
        0,
        cache_folder or platformdirs.user_cache_path("sirdar"),
        trust_remote_code,
    )
    everything = engine is EngineChoice.ALL or precision is PrecisionChoice.ALL
    failed = seen = met = 0
    header = f"{'engine':<10}{'precision':<11}{'lowest cosine':<15}{'least':<8}verdict\n"
    try:
        for one in verify(ModelSource(name, revision), options):
            print(f"{header}{_row(one)}", flush=True)
            header = ""
            met += 1
            seen += one.verdict == "good"
            failed += one.verdict == "bad" or (one.verdict == "not here" and not everything)
    except SirdarError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)
    if not seen and not failed:
        print(f"error: nothing to compare: {_nothing(engine, precision, met)}", file=sys.stderr)
    sys.exit(1 if failed or not seen else 0)


def _nothing(engine: EngineChoice, precision: PrecisionChoice, met: int) -> str:
    """Why not one of the `met` engines and precisions that were asked for was compared."""
    if met:
        return "none of these can run here; the rows above say why"
    return f"{engine.value} has no {precision.value}"


def _row(one: "Verification") -> str:
    start = f"{one.engine:<10}{one.precision:<11}"
    if one.parity is None:
        return f"{start}{'':<15}{'':<8}{one.verdict}: {one.why}"
    parity = one.parity
    return f"{start}{parity.min_cosine:<15.7f}{parity.required_cosine:<8}{one.verdict}"
