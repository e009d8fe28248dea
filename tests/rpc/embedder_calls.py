"""How the tests of the embedder start and call it."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedder.settings import EmbedderSettings
from sirdar.errors import SirdarError, from_rpc_error
from sirdar.v1 import common_pb2
from sirdar.v1.embedder_pb2_grpc import EmbedderServiceStub
from tests.small_model import minilm, model_cache

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.embedder_pb2_grpc import EmbedderServiceAsyncStub

_NUMPY_DTYPES = {
    common_pb2.DTYPE_FLOAT32: "<f4",
    common_pb2.DTYPE_FLOAT16: "<f2",
    common_pb2.DTYPE_INT8: "i1",
}


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
