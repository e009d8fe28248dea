"""A model from its name to an engine that is ready to run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.conversion import not_loadable
from services.inference.description import ModelDescription
from services.inference.engine import Engine, EngineName, Precision
from services.inference.fingerprint import content_digest, space_fingerprint
from services.inference.kinds import BI_ENCODER, DescriptionT, ModelKind
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
    description, tokenizer_json, engine = start_engine(BI_ENCODER, folder, digest, options)
    model = LoadedModel(
        source,
        description,
        space_fingerprint(digest, description),
        TextTokenizer(tokenizer_json, description.max_tokens),
        engine,
    )
    _warm(model)
    log_loaded(source, engine, fingerprint=model.fingerprint)
    return model


def log_loaded(source: ModelSource, engine: Engine, **more: object) -> None:
    """Says what was loaded and how it runs."""
    log.info(
        "model loaded",
        model=source.name,
        engine=engine.info.name,
        precision=engine.info.precision,
        device=engine.info.device,
        streams=engine.info.streams,
        **more,
    )


def _warm(model: LoadedModel) -> None:
    """Runs texts of several lengths: the first of each shape takes up to five times as long.

    Raises FailedPrecondition when the model answers NaN.
    """
    for words in (1, 6, 12, 30, 100, model.description.max_tokens):
        item = model.tokenizer.encode(["word " * words])[0]
        warm_engine(model.source, model.engine, item, model.description.pad_token_id)


def warm_engine(
    source: ModelSource, engine: Engine, item: TokenizedItem, pad_token_id: int
) -> None:
    """Runs one input on every stream; raises FailedPrecondition when the model answers NaN."""
    batch = TokenBatch.pad([item], pad_token_id)
    for stream in range(engine.info.streams):
        if not np.isfinite(engine.run(batch, stream)).all():
            raise FailedPrecondition(
                f"model {source.name} answers NaN or infinity; its weights are damaged, "
                "or precision is too low for it: try fp32",
                reason="MODEL_NOT_LOADABLE",
            )


def start_engine(
    kind: ModelKind[DescriptionT], folder: Path, digest: str, options: EngineOptions
) -> tuple[DescriptionT, str, Engine]:
    """The model's description, its tokenizer.json and a running engine; blocks."""
    if options.engine == "torch" or (options.engine == "auto" and _has_cuda_device()):
        return _start_torch(kind, folder, options)
    converted = converted_model(kind, options.cache_folder, folder, digest)
    engine = OpenVinoEngine(
        converted.graph_file,
        converted.description.inputs,
        normalized=converted.description.normalized,
        precision=options.precision,
        threads=options.threads,
    )
    return converted.description, converted.tokenizer_json, engine


def _start_torch(
    kind: ModelKind[DescriptionT], folder: Path, options: EngineOptions
) -> tuple[DescriptionT, str, Engine]:
    try:
        pipeline = kind.load(folder)
    except Exception as error:
        # transformers, safetensors and torch each have their own errors for a damaged model.
        raise not_loadable(folder, f"{type(error).__name__}: {error}") from error
    # Imports torch: only where torch is the engine.
    from services.inference.torch_engine import TorchEngine  # noqa: PLC0415

    engine = TorchEngine(pipeline, options.precision)
    return pipeline.description, pipeline.tokenizer_json, engine


def _has_cuda_device() -> bool:
    # torch would have to be imported to be asked.
    return Path("/dev/nvidiactl").exists()
