"""Sealed segments: immutable FAISS indexes, memory-mapped."""

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from services.retriever.segment import NO_PASSAGE, Hits, Rows
from sirdar.errors import DataLoss

FACTORIES = {"hnsw": "HNSW32,SQfp16", "flat": "SQfp16"}
"""The FAISS factory string of each index kind."""

_COPY_ROWS = 8192
# A step of the graph costs as much as scanning 20 to 40 rows (10,000 rows, 384 dimensions):
# wider walks than this are slower than comparing with every row, and worse.
_ROWS_PER_EF = 20


class SealedSegment:
    """An index file with the ids of its rows; `document_keys` (int64) is ascending."""

    ids: NDArray[np.int64]
    document_keys: NDArray[np.int64]

    def __init__(self, name: str, index: Any, rows: NDArray[np.int64], index_kind: str) -> None:
        self.name = name
        self.ids = rows[0]
        self.document_keys = rows[1]
        self.index_kind = index_kind
        self.index = index
        self.storage = faiss.downcast_index(index.storage) if index_kind == "hnsw" else index

    @classmethod
    def open(cls, index_file: Path, rows_file: Path, index_kind: str) -> "SealedSegment":
        """Maps the files. IO_FLAG_MMAP would copy the graph to the heap.

        Raises DataLoss where they do not fit together.
        """
        index = faiss.read_index(str(index_file), faiss.IO_FLAG_MMAP_IFC)
        rows: NDArray[np.int64] = np.load(rows_file, mmap_mode="r")
        if rows.shape != (2, index.ntotal):
            raise DataLoss(f"{rows_file} is not of {index_file}")
        return cls(index_file.stem, index, rows, index_kind)

    def rows_of(self, document_key: int) -> range:
        """The rows of a document, live or not."""
        start, end = np.searchsorted(self.document_keys, [document_key, document_key + 1])
        return range(int(start), int(end))

    def holds(self, document_keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the documents have rows here; int64 (n) to bool (n)."""
        at = np.searchsorted(self.document_keys, document_keys)
        at[at == len(self.document_keys)] = 0
        held: NDArray[np.bool_] = self.document_keys[at] == document_keys
        return held


class SealedView:
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

    def without(self, rows: NDArray[np.int64]) -> "SealedView":
        """The view after these rows died."""
        if len(rows) == 0:
            return self
        live = self._live()
        live[rows] = False
        return SealedView(self.segment, np.packbits(live, bitorder="little"))

    def passages_of(self, document_key: int) -> NDArray[np.int64]:
        """The live passages of a document here."""
        rows = self.segment.rows_of(document_key)
        if not rows:
            return np.empty(0, np.int64)
        alive = [row for row in rows if self._is_live(row)]
        ids: NDArray[np.int64] = self.segment.ids[alive]
        return ids

    def live_ids(self) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self.segment.ids[self._live()]
        return ids

    def live_rows(self) -> Rows:
        """A copy of what is live."""
        rows = np.flatnonzero(self._live())
        vectors = np.empty((len(rows), self.segment.index.d), np.float16)
        for start in range(0, len(rows), _COPY_ROWS):
            part = rows[start : start + _COPY_ROWS]
            # float16 to float32 and back changes nothing.
            vectors[start : start + len(part)] = self.segment.storage.reconstruct_batch(part)
        return Rows(self.segment.ids[rows], self.segment.document_keys[rows], vectors)

    def search(self, queries: NDArray[np.float32], k: int, ef_search: int | None) -> Hits:
        live = self.rows - self.dead
        k = min(k, live)
        if k == 0:
            return Hits(
                np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
            )
        # Dead rows take places of the walk's answer: it asks for as many more as are likely.
        wanted = k
        if self.dead:
            expected = k * self.rows / live
            wanted = min(self.rows, math.ceil(expected + 3 * math.sqrt(expected)) + 8)
        ef = max(ef_search or 0, wanted)
        if ef_search is None or self.segment.index_kind == "flat" or ef * _ROWS_PER_EF >= self.rows:
            return self._scan(queries, k)
        return self._walk(queries, k, wanted, ef)

    def scan(self, queries: NDArray[np.float32], k: int, start: int, end: int) -> Hits:
        rows = faiss.IDSelectorRange(start, end)
        live = self._selector
        parameters = faiss.SearchParameters(
            sel=rows if live is None else faiss.IDSelectorAnd(rows, live)
        )
        return self._hits(*self.segment.storage.search(queries, k, params=parameters))

    def _walk(self, queries: NDArray[np.float32], k: int, wanted: int, ef: int) -> Hits:
        """The walk does not know of dead rows; they are taken out of its answer.

        Were they left out inside of it, a query whose neighbourhood was deleted
        would be answered from far along the way, and nothing would show it. Here
        it finds less than k, and is compared with every row instead.
        """
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        scores, rows = self.segment.index.search(queries, wanted, params=parameters)
        if self.live_bits is not None:
            alive = (self.live_bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
            rows[alive == 0] = -1
        hits = self._hits(scores, rows)
        short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
        if len(short):
            found = self._scan(queries[short], k)
            hits.scores[short] = -np.inf
            hits.ids[short] = NO_PASSAGE
            hits.scores[short, :k], hits.ids[short, :k] = found.scores, found.ids
        return hits

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

    def _live(self) -> NDArray[np.bool_]:
        if self.live_bits is None:
            return np.ones(self.rows, bool)
        return np.unpackbits(self.live_bits, count=self.rows, bitorder="little").astype(bool)

    def _is_live(self, row: int) -> bool:
        return self.live_bits is None or bool(self.live_bits[row >> 3] >> (row & 7) & 1)
