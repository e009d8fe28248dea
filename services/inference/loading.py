"""A model from its name to an engine that is ready to run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from services.inference.batch import TokenBatch
from services.inference.conversion import not_loadable
from services.inference.description import ModelDescription
from services.inference.engine import Engine, EngineName, Precision
from services.inference.fingerprint import content_digest, space_fingerprint
from services.inference.model_cache import converted_model
from services.inference.openvino_engine import OpenVinoEngine
from services.inference.source import ModelSource, model_folder
from services.inference.tokenizer import TextTokenizer
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How models are run."""

    engine: EngineName
    precision: Precision
    threads: int
    """0: as many as this process has CPUs."""
    cache_folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model that can be run, warm."""

    source: ModelSource
    description: ModelDescription
    fingerprint: str
    tokenizer: TextTokenizer
    engine: Engine

    def close(self) -> None:
        self.tokenizer.close()
        self.engine.close()


def load_model(source: ModelSource, options: EngineOptions) -> LoadedModel:
    """Finds, converts where needed, compiles and warms a model; blocks.

    Raises NotFound or FailedPrecondition, with the fix, when it cannot be loaded.
    """
    folder = model_folder(source)
    digest = content_digest(folder)
    use_torch = options.engine == "torch" or (options.engine == "auto" and _has_cuda_device())
    load = _load_torch if use_torch else _load_openvino
    description, tokenizer_json, engine = load(folder, digest, options)
    model = LoadedModel(
        source,
        description,
        space_fingerprint(digest, description),
        TextTokenizer(tokenizer_json, description.max_tokens),
        engine,
    )
    _warm(model)
    log.info(
        "model loaded",
        model=source.name,
        engine=engine.info.name,
        precision=engine.info.precision,
        device=engine.info.device,
        streams=engine.info.streams,
        fingerprint=model.fingerprint,
    )
    return model


def _warm(model: LoadedModel) -> None:
    """Runs texts of several lengths: the first of each shape takes up to five times as long.

    Raises FailedPrecondition when the model answers NaN.
    """
    for words in (1, 6, 12, 30, 100, model.description.max_tokens):
        item = model.tokenizer.encode(["word " * words])[0]
        batch = TokenBatch.pad([item], model.description.pad_token_id)
        for stream in range(model.engine.info.streams):
            if not np.isfinite(model.engine.run(batch, stream)).all():
                raise FailedPrecondition(
                    f"model {model.source.name} answers NaN or infinity; its weights are damaged, "
                    "or precision is too low for it: try fp32",
                    reason="MODEL_NOT_LOADABLE",
                )


def _load_openvino(
    folder: Path, digest: str, options: EngineOptions
) -> tuple[ModelDescription, str, Engine]:
    converted = converted_model(options.cache_folder, folder, digest)
    engine = OpenVinoEngine(
        converted.graph_file,
        converted.description.inputs,
        normalized=converted.description.normalized,
        precision=options.precision,
        threads=options.threads,
    )
    return converted.description, converted.tokenizer_json, engine


def _load_torch(
    folder: Path, _digest: str, options: EngineOptions
) -> tuple[ModelDescription, str, Engine]:
    # Takes seconds and half a gigabyte: only where torch is the engine.
    from services.inference.pipeline import load_pipeline  # noqa: PLC0415
    from services.inference.torch_engine import TorchEngine  # noqa: PLC0415

    try:
        pipeline = load_pipeline(folder)
    except Exception as error:
        # transformers, safetensors and torch each have their own errors for a damaged model.
        raise not_loadable(folder, f"{type(error).__name__}: {error}") from error
    engine = TorchEngine(pipeline, options.precision)
    return pipeline.description, pipeline.tokenizer_json, engine


def _has_cuda_device() -> bool:
    # torch would have to be imported to be asked.
    return Path("/dev/nvidiactl").exists()
