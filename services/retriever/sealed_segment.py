"""Sealed segments: immutable FAISS indexes, memory-mapped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retriever.cells import Cells
from services.retriever.faiss_index import (
    code_bytes,
    fp16_storage,
    fp16_vectors,
    map_index,
    touch,
)
from services.retriever.filters.allowed import RowSlots
from services.retriever.index_kinds import rescored_per_candidate
from sirdar.errors import DataLoss


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """`vectors`: a flat float16 index of the rows; None: the index has them itself.
    `centroids` and `cells`: of `Cells`; None: there are none."""

    index: Path
    rows: Path
    vectors: Path | None
    centroids: Path | None
    cells: Path | None


class SealedSegment:
    """An index with the ids of its rows; `document_keys` (int64) is ascending.

    `kind` is a name or a factory string, `note` says why it is not the one
    that the collection asks for.
    """

    ids: NDArray[np.int64]
    document_keys: NDArray[np.int64]

    def __init__(
        self,
        name: str,
        index: Any,
        storage: Any,
        rows: NDArray[np.int64],
        *,
        kind: str,
        note: str = "",
        cells: Cells | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.note = note
        self.ids = rows[0]
        self.document_keys = rows[1]
        self.index = index
        self.storage = storage
        self.cells = cells
        self.slots = RowSlots()
        self.rescored = 1
        if fp16_storage(index) is None:
            self.rescored = rescored_per_candidate(code_bytes(index), index.d)

    @classmethod
    def open(
        cls, name: str, files: SegmentFiles, kind: str, note: str, dimensions: int
    ) -> "SealedSegment":
        """Maps the files. Raises DataLoss and ValueError where they do not fit together, OSError
        and RuntimeError where they cannot be read."""
        index = map_index(files.index)
        rows: NDArray[np.int64] = np.load(files.rows, mmap_mode="r")
        storage = fp16_storage(index if files.vectors is None else map_index(files.vectors))
        shape = (index.ntotal, dimensions)
        if (
            storage is None
            or rows.shape != (2, index.ntotal)
            or shape != (storage.ntotal, storage.d)
            or index.d != dimensions
        ):
            raise DataLoss(f"{files.rows} is not of {files.index}")
        cells = None
        if files.centroids and files.cells:
            layout: NDArray[np.int32] = np.load(files.cells, mmap_mode="r")
            cells = Cells(map_index(files.centroids), layout, index.ntotal)
        return cls(name, index, storage, rows, kind=kind, note=note, cells=cells)

    def touch(self) -> None:
        """Has the pages of the segment in memory."""
        touch(self.index, self.storage)

    def rows_of(self, document_key: int) -> range:
        """The rows of a document, live or not."""
        start, end = np.searchsorted(self.document_keys, [document_key, document_key + 1])
        return range(int(start), int(end))

    def rows_of_all(self, document_keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of documents, live or not."""
        starts = np.searchsorted(self.document_keys, document_keys, "left").tolist()
        ends = np.searchsorted(self.document_keys, document_keys, "right").tolist()
        rows = [row for start, end in zip(starts, ends, strict=True) for row in range(start, end)]
        return np.array(rows, np.int64)

    def holds(self, document_keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the documents have rows here; int64 (n) to bool (n)."""
        at = np.searchsorted(self.document_keys, document_keys)
        at[at == len(self.document_keys)] = 0
        held: NDArray[np.bool_] = self.document_keys[at] == document_keys
        return held

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """A copy of the vectors of rows; int64 (...) to float16 (..., dimensions)."""
        found: NDArray[np.float16] = fp16_vectors(self.storage)[rows]
        return found
