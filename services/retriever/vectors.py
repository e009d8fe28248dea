"""Vectors from the wire to arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.records import Generation, Similarity
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2

_DTYPES: dict[int, np.dtype[np.floating[Any]]] = {
    common_pb2.DTYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.DTYPE_FLOAT16: np.dtype("<f2"),
}
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def decode(
    vectors: Sequence[common_pb2.Vector], fields: Sequence[str], generation: Generation
) -> NDArray[np.float32]:
    """Float32 of shape (len(vectors), dimensions), of unit length under cosine similarity.

    `fields` has the path of each vector. Raises InvalidArgument for one of
    another dimension, of an unknown dtype, with NaN or infinity, or of length
    zero under cosine.
    """
    dimensions = generation.space.dimensions
    dtypes = set()
    for vector, field in zip(vectors, fields, strict=True):
        _check_layout(vector, field, dimensions)
        dtypes.add(vector.dtype)
    if len(dtypes) == 1:
        flat = np.frombuffer(b"".join([vector.data for vector in vectors]), _DTYPES[dtypes.pop()])
        array = flat.reshape(len(vectors), dimensions).astype(np.float32)
    else:
        array = np.empty((len(vectors), dimensions), np.float32)
        for row, vector in zip(array, vectors, strict=True):
            row[:] = np.frombuffer(vector.data, _DTYPES[vector.dtype])
    if generation.similarity is Similarity.COSINE:
        return _unit_length(array, fields)
    _check_finite(array, fields)
    return array


def as_stored(array: NDArray[np.float32], fields: Sequence[str]) -> NDArray[np.float16]:
    """The vectors as the store keeps them. Raises InvalidArgument beyond float16's range."""
    beyond = (np.abs(array) > _FLOAT16_MAX).any(axis=1)
    if beyond.any():
        raise InvalidArgument.field(
            fields[int(beyond.argmax())], f"must have components within ±{_FLOAT16_MAX:.0f}"
        )
    return array.astype(np.float16)


def _check_layout(vector: common_pb2.Vector, field: str, dimensions: int) -> None:
    dtype = _DTYPES.get(vector.dtype)
    if dtype is None:
        raise InvalidArgument.field(f"{field}.dtype", "must be DTYPE_FLOAT32 or DTYPE_FLOAT16")
    if vector.dimensions != dimensions:
        raise InvalidArgument.field(
            f"{field}.dimensions",
            f"must be {dimensions} as in the collection, not {vector.dimensions}",
        )
    wanted = dimensions * dtype.itemsize
    if len(vector.data) != wanted:
        raise InvalidArgument.field(
            f"{field}.data", f"must be {wanted} bytes, not {len(vector.data)}"
        )


def _check_finite(array: NDArray[np.float32], fields: Sequence[str]) -> None:
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InvalidArgument.field(fields[int(bad.argmax())], "must not have NaN or infinity")


def _unit_length(array: NDArray[np.float32], fields: Sequence[str]) -> NDArray[np.float32]:
    # In float64, where the squares of no float32 overflow or vanish: the length of what is finite
    # is finite, and of nothing else.
    wide = array.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    if not (norms > 0).all() or not np.isfinite(norms).all():
        _check_finite(array, fields)
        raise InvalidArgument.field(
            fields[int((norms == 0).argmax())], "must not be zero under cosine similarity"
        )
    unit: NDArray[np.float32] = (wide / norms[:, None]).astype(np.float32)
    return unit
