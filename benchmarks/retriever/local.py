"""The server's own segments, searched by FAISS in this process: no gRPC, no ids, no merging.

Sealed segments are the server's files. What it has not sealed yet is taken as
an exact index over as many vectors.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.retriever.corpus import DIMENSIONS, K
from services.runtime.cpu import available_cpus

# What the retriever walks a segment with when it is asked for ten.
DEFAULT_EF = 64


class LocalSegments:
    """FAISS indexes that make up a collection, and threads that search them."""

    def __init__(self, files: Sequence[Path], growing: Sequence[NDArray[np.float32]]) -> None:
        self._indexes: list[Any] = [
            faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC) for file in files
        ]
        self._sealed = len(self._indexes)
        for rows in growing:
            index = faiss.IndexFlatIP(DIMENSIONS)
            index.add(rows)
            self._indexes.append(index)
        self._threads = available_cpus()
        self._pool = ThreadPoolExecutor(self._threads)

    def batched(self, queries: NDArray[np.float32], size: int) -> float:
        """Queries a second, so many a call, each call over all cores."""
        faiss.omp_set_num_threads(self._threads)
        started = time.perf_counter()
        for start in range(0, len(queries), size):
            self._search(queries[start : start + size])
        return len(queries) / (time.perf_counter() - started)

    def single(self, queries: NDArray[np.float32]) -> float:
        """Queries a second, one a call, a call at a time on each core."""
        started = time.perf_counter()
        list(self._pool.map(self._one_by_one, np.array_split(queries, self._threads)))
        return len(queries) / (time.perf_counter() - started)

    def close(self) -> None:
        self._pool.shutdown()
        self._indexes.clear()

    def _one_by_one(self, queries: NDArray[np.float32]) -> None:
        faiss.omp_set_num_threads(1)
        for at in range(len(queries)):
            self._search(queries[at : at + 1])

    def _search(self, queries: NDArray[np.float32]) -> None:
        parameters = faiss.SearchParametersHNSW(efSearch=DEFAULT_EF)
        for index in self._indexes[: self._sealed]:
            index.search(queries, K, params=parameters)
        for index in self._indexes[self._sealed :]:
            index.search(queries, K)
