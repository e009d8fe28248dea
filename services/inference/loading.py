"""A model from its name to an engine that is ready to run."""

from dataclasses import dataclass

import numpy as np
import structlog

from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.description import ModelDescription
from services.inference.engine import Engine
from services.inference.fingerprint import content_digest, space_fingerprint
from services.inference.golden import GoldenVectors, golden_texts
from services.inference.kinds import BI_ENCODER, golden_documents
from services.inference.parity import (
    Parity,
    check_parity,
    compute_all,
    forget_parity,
    vector_parity,
)
from services.inference.source import ModelSource, model_folder
from services.inference.starting import EngineOptions, start_engine
from services.inference.tokenizer import TextTokenizer
from sirdar.errors import FailedPrecondition

# Where those who load models look for it.
__all__ = ["EngineOptions", "LoadedModel", "load_model", "log_loaded", "warm_engine"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model that can be run, warm."""

    source: ModelSource
    description: ModelDescription
    fingerprint: str
    tokenizer: TextTokenizer
    engine: Engine
    golden: GoldenVectors
    parity: Parity

    def close(self) -> None:
        self.tokenizer.close()
        self.engine.close()
        forget_parity(self.source.label)


def load_model(source: ModelSource, options: EngineOptions) -> LoadedModel:
    """Finds, converts where needed, compiles, warms and checks a model; blocks.

    Raises NotFound or FailedPrecondition, with the fix, when it cannot be loaded or its
    vectors are too far from the reference.
    """
    folder = model_folder(source)
    digest = content_digest(folder, code=options.trust_remote_code)
    converted, engine = start_engine(BI_ENCODER, folder, digest, options)
    description = converted.description
    tokenizer = TextTokenizer(converted.tokenizer_json, description.max_tokens)
    try:
        _warm(source, engine, tokenizer, description)
        golden = GoldenVectors(golden_texts(), converted.reference)
        items = golden_documents(tokenizer, description)
        actual = compute_all(engine, items, description.pad_token_id)
        parity = vector_parity(engine, actual, golden.vectors)
        check_parity(source.label, engine, parity)
    except BaseException:
        tokenizer.close()
        engine.close()
        raise
    fingerprint = space_fingerprint(digest, description)
    log_loaded(source, engine, parity, fingerprint=fingerprint)
    return LoadedModel(source, description, fingerprint, tokenizer, engine, golden, parity)


def log_loaded(source: ModelSource, engine: Engine, parity: Parity, **more: object) -> None:
    """Says what was loaded and how it runs."""
    log.info(
        "model loaded",
        model=source.name,
        engine=engine.info.name,
        precision=engine.info.precision,
        device=engine.info.device,
        streams=engine.info.streams,
        min_cosine=round(parity.min_cosine, 6),
        **more,
    )


def _warm(
    source: ModelSource, engine: Engine, tokenizer: TextTokenizer, description: ModelDescription
) -> None:
    """Runs texts of several lengths: the first of each shape takes up to five times as long.

    Raises FailedPrecondition when the model answers NaN.
    """
    for words in (1, 6, 12, 30, 100, description.max_tokens):
        item = tokenizer.encode(["word " * words])[0]
        warm_engine(source, engine, item, description.pad_token_id)


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
