"""How the tests of the embedder start and call it."""

import functools
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from services.embedder.settings import EmbedderSettings
from sirdar.errors import SirdarError, from_rpc_error
from sirdar.v1 import common_pb2
from sirdar.v1.embedder_pb2_grpc import EmbedderServiceStub
from tests.small_model import minilm, model_cache, save_tiny_model

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.embedder_pb2_grpc import EmbedderServiceAsyncStub

_NUMPY_DTYPES = {
    common_pb2.DTYPE_FLOAT32: "<f4",
    common_pb2.DTYPE_FLOAT16: "<f2",
    common_pb2.DTYPE_INT8: "i1",
}


@functools.cache
def tiny_model() -> Path:
    """A random model of 16 dimensions and 48 tokens that does not normalise.

    It has the prompts `query`, `document` and `topic`.
    """
    folder = save_tiny_model(model_cache() / "tiny")
    weights = load_file(folder / "model.safetensors")
    # As transformers draws them all texts have about the same vector.
    wide = {name: w * np.float32(12 if w.ndim == 2 else 1) for name, w in weights.items()}
    save_file(wide, folder / "model.safetensors", {"format": "pt"})
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text())
    config["prompts"]["topic"] = "heat: "
    file.write_text(json.dumps(config))
    return folder


def settings(**changes: object) -> EmbedderSettings:
    minilm()  # converts the model, once for all tests of a run
    values = {"port": 0, "metrics_port": None, "cache_folder": model_cache(), **changes}
    return EmbedderSettings(**values)  # type: ignore[arg-type]


def connect(channel: grpc.aio.Channel) -> "EmbedderServiceAsyncStub":
    stub: EmbedderServiceAsyncStub = EmbedderServiceStub(channel)  # type: ignore[assignment]
    return stub


async def error_of(call: Awaitable[object]) -> SirdarError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def array(vector: common_pb2.Vector) -> NDArray[np.float32]:
    """The components of any vector but a binary one."""
    values = np.frombuffer(vector.data, _NUMPY_DTYPES[vector.dtype])
    assert len(values) == vector.dimensions
    return values.astype(np.float32)
