"""Vectors as they travel, as arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sirdar.errors import FailedPrecondition
from sirdar.v1 import common_pb2

_DTYPES = {common_pb2.DTYPE_FLOAT32: "<f4", common_pb2.DTYPE_FLOAT16: "<f2"}


def to_array(vector: common_pb2.Vector) -> NDArray[np.float32]:
    """float32 of shape (dimensions,). Raises FailedPrecondition for what is not of floats."""
    dtype = _DTYPES.get(vector.dtype)
    if dtype is None:
        raise FailedPrecondition(
            f"a vector of dtype {vector.dtype} came where floats were asked for"
        )
    return np.frombuffer(vector.data, dtype).astype(np.float32)


def unit_rows(vectors: Sequence[common_pb2.Vector]) -> NDArray[np.float32]:
    """float32 of shape (vectors, dimensions), each of length 1, or 0 where it was 0."""
    rows = np.stack([to_array(vector) for vector in vectors])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(
        rows, lengths, out=np.zeros_like(rows), where=lengths > 0
    )
    return units


def mean_vector(vectors: Sequence[common_pb2.Vector]) -> common_pb2.Vector:
    """The mean direction: float32 of length 1."""
    mean = unit_rows(vectors).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length > 0:
        mean /= length
    return common_pb2.Vector(
        data=mean.astype("<f4").tobytes(),
        dtype=common_pb2.DTYPE_FLOAT32,
        dimensions=int(mean.shape[0]),
    )
