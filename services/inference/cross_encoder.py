"""A cross-encoder from its folder to an engine that is ready to score pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.inference.adapter import adapter_digest, read_adapter
from services.inference.description import ActivationName, CrossEncoderDescription
from services.inference.engine import Engine
from services.inference.fingerprint import content_digest
from services.inference.kinds import CROSS_ENCODER, golden_pair_items
from services.inference.loading import log_loaded, warm_engine
from services.inference.pair_tokenizer import PairTokenizer
from services.inference.parity import Parity, check_parity, compute_all, forget_parity, logit_parity
from services.inference.source import ModelSource
from services.inference.starting import EngineOptions, start_engine

Activation = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _identity(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return logits


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # By tanh, which does not overflow.
    scores: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return scores


_ACTIVATIONS: dict[ActivationName, Activation] = {
    "identity": _identity,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedCrossEncoder:
    """A cross-encoder that can be run, warm. Its engine's rows are logits [pairs, 1]."""

    source: ModelSource
    description: CrossEncoderDescription
    tokenizer: PairTokenizer
    engine: Engine
    parity: Parity

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's own activation of logits, of any shape."""
        activation = _ACTIVATIONS[self.description.activation]
        return activation(logits.astype(np.float64)).astype(np.float32)

    def close(self) -> None:
        self.tokenizer.close()
        self.engine.close()
        forget_parity(self.source.name)


def load_cross_encoder(
    source: ModelSource, folder: Path, options: EngineOptions
) -> LoadedCrossEncoder:
    """Converts where needed, compiles, warms and checks the model in a folder; blocks.

    Raises FailedPrecondition, with the fix, when it cannot be loaded or its logits are too
    far from the reference.
    """
    adapter = read_adapter(folder)
    if adapter is None:
        digest = content_digest(folder, code=options.trust_remote_code)
    else:
        digest = adapter_digest(adapter)
    converted, engine = start_engine(CROSS_ENCODER, folder, digest, options)
    description = converted.description
    tokenizer = PairTokenizer(converted.tokenizer_json, description.max_tokens)
    try:
        # The first pair of each length takes up to five times as long.
        for words in (1, 30, 60, 100, 150, description.max_tokens):
            item = tokenizer.encode("word", ["word " * words])[0]
            warm_engine(source, engine, item, description.pad_token_id)
        items = golden_pair_items(tokenizer)
        actual = compute_all(engine, items, description.pad_token_id)
        parity = logit_parity(engine, actual, converted.reference)
        check_parity(source.name, engine, parity)
    except BaseException:
        tokenizer.close()
        engine.close()
        raise
    log_loaded(source, engine, parity)
    return LoadedCrossEncoder(source, description, tokenizer, engine, parity)
