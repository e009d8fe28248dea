"""Which engine runs a model, and how it is started."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.inference.conversion import not_loadable
from services.inference.engine import Engine, EngineName, Precision
from services.inference.kinds import DescriptionT, ModelKind
from services.inference.model_cache import ConvertedModel, converted_model
from services.inference.recipe import GraphForm, Recipe
from services.runtime.cpu import int8_products_saturate
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How models are run."""

    engine: EngineName
    precision: Precision
    threads: int
    """Of engines on the CPU; 0: as many as this process has CPUs."""
    cache_folder: Path
    trust_remote_code: bool = False
    """Run the code that a model's folder brings along."""


def start_engine(
    kind: ModelKind[DescriptionT], folder: Path, digest: str, options: EngineOptions
) -> tuple[ConvertedModel[DescriptionT], Engine]:
    """The model as it is kept in the cache, and a running engine; blocks.

    Raises InvalidArgument for a precision that the engine or the machine has not, and
    FailedPrecondition when the model cannot be converted or the engine is not installed.
    """
    engine = options.engine
    if engine == "auto":
        engine = "torch" if _has_cuda_device() and _torch_has_cuda() else "openvino"
    match engine:
        case "torch":
            return _start_torch(kind, folder, digest, options)
        case "onnx":
            return _start_onnx(kind, folder, digest, options)
        case _:
            return _start_openvino(kind, folder, digest, options)


def _start_openvino(
    kind: ModelKind[DescriptionT], folder: Path, digest: str, options: EngineOptions
) -> tuple[ConvertedModel[DescriptionT], Engine]:
    from services.inference.openvino_engine import OpenVinoEngine, cpu_precision  # noqa: PLC0415

    cpu_precision(options.precision)  # refused before it is converted
    if options.precision == "int8":
        _require(("nncf",), "int8 by the engine openvino", extra="int8")
    form: GraphForm = "openvino-int8" if options.precision == "int8" else "openvino"
    converted = _converted(kind, form, folder, digest, options)
    engine = OpenVinoEngine(
        converted.graph_file,
        converted.description,
        precision=options.precision,
        threads=options.threads,
    )
    return converted, engine


def _start_onnx(
    kind: ModelKind[DescriptionT], folder: Path, digest: str, options: EngineOptions
) -> tuple[ConvertedModel[DescriptionT], Engine]:
    _require(("onnx", "onnxruntime", "onnxscript"), "the engine onnx", extra="onnx")
    from services.inference.onnx_engine import OnnxEngine, onnx_precision  # noqa: PLC0415

    form: GraphForm = "onnx"
    if onnx_precision(options.precision) == "int8":
        form = "onnx-int8-reduced" if int8_products_saturate() else "onnx-int8"
    converted = _converted(kind, form, folder, digest, options)
    engine = OnnxEngine(
        converted.graph_file,
        converted.description.inputs,
        normalized=converted.description.normalized,
        precision=options.precision,
        threads=options.threads,
    )
    return converted, engine


def _start_torch(
    kind: ModelKind[DescriptionT], folder: Path, digest: str, options: EngineOptions
) -> tuple[ConvertedModel[DescriptionT], Engine]:
    # Imported only where torch is the engine.
    import torch  # noqa: PLC0415

    from services.inference.cuda_engine import CudaEngine  # noqa: PLC0415
    from services.inference.torch_engine import TorchEngine, torch_precision  # noqa: PLC0415

    precision = torch_precision(options.precision)
    converted = _converted(kind, "torch", folder, digest, options)
    try:
        pipeline = kind.load(folder, trust_remote_code=options.trust_remote_code)
    except Exception as error:
        # transformers, safetensors and torch each have their own errors for a damaged model.
        raise not_loadable(folder, f"{type(error).__name__}: {error}") from error
    if torch.cuda.is_available():
        return converted, CudaEngine(pipeline, precision)
    return converted, TorchEngine(pipeline, precision, options.threads)


def _converted(
    kind: ModelKind[DescriptionT],
    form: GraphForm,
    folder: Path,
    digest: str,
    options: EngineOptions,
) -> ConvertedModel[DescriptionT]:
    recipe = Recipe(form, options.trust_remote_code)
    return converted_model(kind, recipe, options.cache_folder, folder, digest)


def _require(packages: tuple[str, ...], what: str, *, extra: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f"{what} needs what is not installed: {', '.join(missing)}; run: "
            f"pip install 'sirdar-server[{extra}]', or set engine and precision to auto",
            reason="ENGINE_NOT_INSTALLED",
        )


def _has_cuda_device() -> bool:
    # torch would have to be imported to be asked, which a machine without a GPU is spared.
    return Path("/dev/nvidiactl").exists()


def _torch_has_cuda() -> bool:
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return True
    log.warning(
        "there is an NVIDIA GPU that torch cannot use: openvino runs the model on the CPU; "
        "install torch with CUDA and check the driver, or set engine",
        torch=torch.__version__,
    )
    return False
