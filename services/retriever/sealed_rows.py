"""A sealed segment less its dead rows, and the ways to find the best of the others."""

import math
from functools import cached_property
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from services.retriever.cells import Cells
from services.retriever.faiss_index import one_thread_for_few
from services.retriever.filters.allowed import Allowed
from services.retriever.sealed_segment import SealedSegment
from services.retriever.segment import NO_PASSAGE, Hits, no_hits

# Of 40,000 rows in 500 cells, 384 dimensions, this share in the nearest cells (1,200 rows) held
# 0.955 of the ten best where a filter leaves the half that is away from the query, 0.97 where it
# leaves an eighth.
_COMPARED_SHARE = 0.03
_COMPARED_ROWS = 1000
_COMPARED_PER_CANDIDATE = 32
# Rescoring holds the float32 vectors of this many bytes at a time.
_RESCORE_BYTES = 8 * 2**20


class SealedRows:
    """A sealed segment less its dead rows, which `live_bits` (uint8, bit i of byte i // 8 is
    row i) leaves out; None: all rows live."""

    def __init__(self, segment: SealedSegment, live_bits: NDArray[np.uint8] | None = None) -> None:
        self.segment = segment
        self.live_bits = live_bits
        self.rows = len(segment.ids)
        self.dead = 0
        self._selector: Any = None
        if live_bits is not None:
            self.dead = self.rows - int(np.bitwise_count(live_bits).sum())
            self._selector = faiss.IDSelectorBitmap(live_bits)

    @property
    def live(self) -> int:
        return self.rows - self.dead

    def without(self, rows: NDArray[np.int64]) -> Self:
        """The view after these rows died."""
        if len(rows) == 0:
            return self
        if self.live_bits is None:
            bits = np.packbits(np.ones(self.rows, bool), bitorder="little")
        else:
            bits = self.live_bits.copy()
        masks = np.left_shift(1, rows & 7).astype(np.uint8)
        np.bitwise_and.at(bits, rows >> 3, np.bitwise_not(masks))
        return type(self)(self.segment, bits)

    def passages_of(self, document_key: int) -> NDArray[np.int64]:
        """The live passages of a document here."""
        rows = self.segment.rows_of(document_key)
        if not rows:
            return np.empty(0, np.int64)
        alive = [row for row in rows if self._is_live(row)]
        ids: NDArray[np.int64] = self.segment.ids[alive]
        return ids

    def live_rows(self) -> NDArray[np.int64]:
        """The numbers of the live rows, ascending."""
        if self.live_bits is None:
            return np.arange(self.rows)
        bits = np.unpackbits(self.live_bits, count=self.rows, bitorder="little")
        return np.flatnonzero(bits)

    def among(self, allowed: Allowed) -> Self:
        return allowed.once(self, lambda: self._among(allowed))

    def _among(self, allowed: Allowed) -> Self:
        mask = allowed.mask(self.segment.document_keys, self.segment.slots)
        bits = np.packbits(mask, bitorder="little")
        return type(self)(self.segment, bits if self.live_bits is None else bits & self.live_bits)

    def scan(self, queries: NDArray[np.float32], k: int, start: int, end: int) -> Hits:
        rows = faiss.IDSelectorRange(start, end)
        live = self._selector
        parameters = faiss.SearchParameters(
            sel=rows if live is None else faiss.IDSelectorAnd(rows, live)
        )
        return self._hits(*self.segment.storage.search(queries, k, params=parameters))

    def _gather(self, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
        """Compares with these rows."""
        if len(rows) == 0:
            return no_hits(len(queries))
        # A flat index of their own: FAISS compares with float16 as it is, where NumPy converts
        # it first, at five times the cost.
        vectors = self.segment.vectors(rows)
        own = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        own.add_sa_codes(vectors.view(np.uint8))
        with one_thread_for_few(queries):
            scores, places = own.search(queries, min(k, len(rows)))
        return Hits(scores, self.segment.ids[rows[places]])

    def _scan(self, queries: NDArray[np.float32], k: int) -> Hits:
        """Compares with every live row."""
        parameters = faiss.SearchParameters(sel=self._selector)
        return self._hits(*self.segment.storage.search(queries, k, params=parameters))

    def _hits(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Hits:
        ids = self.segment.ids[rows]
        missing = rows < 0
        if missing.any():
            ids[missing] = NO_PASSAGE
            scores[missing] = -np.inf
        return Hits(scores, ids)

    def _compare(self, queries: NDArray[np.float32], k: int, cells: Cells) -> Hits:
        """Compares with the live rows of the cells that are nearest to each query."""
        wanted = math.ceil(_COMPARED_SHARE * self.rows)
        wanted = max(wanted, _COMPARED_ROWS, _COMPARED_PER_CANDIDATE * k)
        if 2 * wanted > self.live:
            return self._scan(queries, k)
        nearest = cells.nearest(queries, cells.count)
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        near_live = cells.nearest_live(nearest, self._mask(), self._live_of_cells, wanted)
        for at, near in enumerate(near_live):
            chosen = np.zeros(self.rows, bool)
            chosen[near] = True
            # Passing over the other rows costs less than gathering these.
            selector = faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
            one = queries[at : at + 1]
            with one_thread_for_few(one):
                scores[at], rows[at] = self.segment.storage.search(
                    one, k, params=faiss.SearchParameters(sel=selector)
                )
        return self._hits(scores, rows)

    @cached_property
    def _live_of_cells(self) -> NDArray[np.int32]:
        """How many rows of each cell are live."""
        assert self.segment.cells is not None
        return self.segment.cells.counts(self._mask())

    def _mask(self) -> NDArray[np.bool_]:
        """Which rows are live."""
        if self.live_bits is None:
            return np.ones(self.rows, bool)
        return np.unpackbits(self.live_bits, count=self.rows, bitorder="little").view(bool)

    def _is_live(self, row: int) -> bool:
        return self.live_bits is None or bool(self.live_bits[row >> 3] >> (row & 7) & 1)

    def _are_live(
        self, rows: NDArray[np.integer], allowed: Allowed | None = None
    ) -> NDArray[np.bool_]:
        """Which of these rows, (...), are live and of documents that are allowed."""
        alive = np.ones(rows.shape, bool)
        if self.live_bits is not None:
            bits = self.live_bits[rows >> 3] >> (rows & 7).astype(np.uint8)
            alive = (bits & 1).astype(bool)
        if allowed is not None:
            alive &= allowed.of_rows(self.segment.document_keys, self.segment.slots, rows)
        return alive

    def _best(
        self,
        queries: NDArray[np.float32],
        k: int,
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> Hits:
        if self.segment.rescored > 1:
            scores, rows = self._rescore(queries, k, rows)
        return self._hits(scores, rows)

    def _rescore(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of the rows of each query by their float16 vectors."""
        scores = np.empty(rows.shape, np.float32)
        step = max(1, _RESCORE_BYTES // (4 * rows.shape[1] * queries.shape[1]))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            vectors = self.segment.vectors(np.maximum(rows[part], 0)).astype(np.float32)
            scores[part] = np.matmul(vectors, queries[part, :, None])[:, :, 0]
        scores[rows < 0] = -np.inf
        if k < rows.shape[1]:
            best = np.argpartition(scores, rows.shape[1] - k, axis=1)[:, rows.shape[1] - k :]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        return scores, rows
