"""Cells: the rows of a sealed segment by the nearest of some centroids.

A graph leads to what is nearest, whether it may be answered or not. Where a
filter or deletions take out what lies around a query, the cells say so before
a walk is made, and which rows to compare with instead.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from services.retriever.faiss_index import one_thread_for_few
from services.retriever.index_kinds import EXACT_FACTORY

CELLED_ROWS = 2_000
"""Segments of fewer rows have no cells: comparing with all of them costs no more."""

_ROWS_PER_CELL = 80
_CELLS_PER_ROOT = 4
_TRAINING_ROWS_PER_CELL = 32
_TRAINING_ROUNDS = 5


class Cells:
    """`centroids` is a flat float16 index of c of them, inner product. `layout` is int32
    (c + 1 + n): where each cell starts, then the rows of one cell after another; none is empty.

    Raises ValueError where they do not fit together.
    """

    def __init__(self, centroids: Any, layout: NDArray[np.int32], rows: int) -> None:
        count = centroids.ntotal
        starts = layout[: count + 1].astype(np.int64)
        if layout.shape != (count + 1 + rows,) or starts[0] != 0 or starts[-1] != rows:
            raise ValueError(f"{count} cells are not of {rows} rows")
        self.count = count
        # As a plain array: each access to a mapped one costs microseconds more.
        self._rows: NDArray[np.int32] = np.asarray(layout[count + 1 :])
        self._centroids = centroids
        self._starts = starts

    def nearest(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """So many cells for each query, (n, count), the nearest first; all of fewer."""
        with one_thread_for_few(queries):
            order: NDArray[np.int64] = self._centroids.search(queries, min(count, self.count))[1]
        return order

    def rows_of(self, cells: NDArray[np.int64]) -> NDArray[np.int32]:
        """The rows of these cells."""
        starts, ends = self._starts[cells].tolist(), self._starts[cells + 1].tolist()
        return np.concatenate(
            [self._rows[start:end] for start, end in zip(starts, ends, strict=True)]
        )

    def counts(self, live: NDArray[np.bool_]) -> NDArray[np.int32]:
        """How many rows of each cell are live by a mask of the rows."""
        # NumPy takes thrice as long to index with int32.
        in_order = live.take(self._rows, mode="clip")
        counts: NDArray[np.int32] = np.add.reduceat(in_order, self._starts[:-1], dtype=np.int32)
        return counts

    def share(self, cells: NDArray[np.int64], counts: NDArray[np.int32]) -> NDArray[np.float64]:
        """The share of the rows of some cells, (n, c), that are counted; (n)."""
        sizes = self._starts[cells + 1] - self._starts[cells]
        share: NDArray[np.float64] = counts[cells].sum(axis=1) / sizes.sum(axis=1)
        return share

    def nearest_live(
        self,
        nearest: NDArray[np.int64],
        live: NDArray[np.bool_],
        counts: NDArray[np.int32],
        wanted: int,
    ) -> Iterator[NDArray[np.int32]]:
        """For each query the live rows of the cells that are nearest to it, of as many as it
        takes to have `wanted`. `nearest` is (n, c), `live` a mask of the rows, of which `counts`
        are in each cell."""
        for cells in nearest:
            here = counts[cells]
            enough = 1 + np.searchsorted(np.cumsum(here), wanted)
            rows = self.rows_of(cells[:enough][here[:enough] > 0])
            yield rows[live.take(rows, mode="clip")]


def cell_count(rows: int) -> int:
    """Cells of a segment of so many rows."""
    return min(rows // _ROWS_PER_CELL, round(_CELLS_PER_ROOT * math.sqrt(rows)))


def training_rows(rows: int) -> int:
    """Vectors that the centroids of a segment of so many rows are trained with."""
    return cell_count(rows) * _TRAINING_ROWS_PER_CELL


def make_cells(
    sample: NDArray[np.float32], chunks: Iterable[NDArray[np.float32]]
) -> tuple[Any, NDArray[np.int32]]:
    """The centroids and the layout for `Cells`, of the rows in `chunks`, from a `sample` of
    `training_rows` of them. Source of the clustering: FAISS's k-means."""
    dimensions = sample.shape[1]
    means = faiss.Kmeans(
        dimensions,
        len(sample) // _TRAINING_ROWS_PER_CELL,
        niter=_TRAINING_ROUNDS,
        spherical=True,
        min_points_per_centroid=1,
    )
    means.train(sample)
    cell_of = np.concatenate([means.assign(chunk)[1] for chunk in chunks])
    sizes = np.bincount(cell_of, minlength=means.k)
    index = faiss.index_factory(dimensions, EXACT_FACTORY, faiss.METRIC_INNER_PRODUCT)
    index.add(means.centroids[sizes > 0])
    starts = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
    order = np.argsort(cell_of, kind="stable")
    return index, np.concatenate([starts, order]).astype(np.int32)
