"""What Sirdar asks of a FAISS index, whichever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_PAGE_BYTES = 4096
_FEW_QUERIES = 4
# Who owns the memory of a view: nobody.
_NOTHING = faiss.MaybeOwnedVectorUInt8()


def map_index(file: Path) -> Any:
    """Maps an index file. IO_FLAG_MMAP would copy a graph to the heap. Raises RuntimeError."""
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def fp16_storage(index: Any) -> Any | None:
    """The part of an index that has its vectors in float16, whole; None: it has none."""
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    whole = isinstance(index, faiss.IndexScalarQuantizer) and (
        index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
    )
    return index if whole else None


def fp16_vectors(storage: Any) -> NDArray[np.float16]:
    """The vectors of `fp16_storage`, shape (n, dimensions), as a view that is good for as long
    as the index."""
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.ntotal * storage.code_size)
    vectors: NDArray[np.float16] = codes.view(np.float16).reshape(storage.ntotal, storage.d)
    return vectors


def fp16_index_over(vectors: NDArray[np.float16]) -> Any:
    """A flat index whose vectors are those of the array, shape (n, dimensions), which it does not
    keep: the caller does. Made in 7 us."""
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    first = faiss.swig_ptr(vectors.view(np.uint8))
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(first, vectors.nbytes, _NOTHING.owner)
    index.ntotal = len(vectors)
    return index


@contextmanager
def one_thread_for_few(queries: NDArray[np.float32]) -> Iterator[None]:
    """Has FAISS search for few queries in this thread. Its scans wake all threads whatever there
    is to do, and wait for each: beside other work for a turn of the processor, some
    milliseconds, where four queries and 10,000 rows take 1.3 ms."""
    threads = faiss.omp_get_max_threads()
    if len(queries) <= _FEW_QUERIES:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def code_bytes(index: Any) -> int:
    """Bytes of a vector in the index."""
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    return int(index.sa_code_size())


def reserve(index: Any, rows: int) -> None:
    """Takes the memory of so many rows at once: adding in parts would grow it by doubling, and
    hold both copies meanwhile."""
    flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if isinstance(flat, faiss.IndexFlatCodes) and rows:
        flat.codes.resize(rows * flat.code_size)
        flat.codes.resize(0)
    if isinstance(index, faiss.IndexHNSW) and rows:
        # Two links a row and neighbour on the lowest level, and a few above it.
        index.hnsw.neighbors.resize(int(rows * index.hnsw.nb_neighbors(0) * 1.05))
        index.hnsw.neighbors.resize(0)


def touch(index: Any, storage: Any) -> None:
    """Has the pages of a mapped index in memory, so that the first searches do not wait."""
    _touch(storage.codes)
    if isinstance(index, faiss.IndexHNSW):
        _touch(index.hnsw.neighbors)


def _touch(mapped: Any) -> None:
    if mapped.size():
        faiss.rev_swig_ptr(mapped.data(), mapped.size())[:: _PAGE_BYTES // 4].max()
