"""Arrays in pages of their own."""

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# A page, and an entry of the kernel's table, are more than a smaller one is worth.
_LEAST_BYTES = 2**16


def unused(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array whose values nobody has set: what is never written takes no memory, however much
    more was asked for than is used, and what is freed goes back to the system at once."""
    count = shape if isinstance(shape, int) else math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size < _LEAST_BYTES:
        return np.empty(shape, dtype)
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, count).reshape(shape)
