"""The segments that become one sealed segment, and their rows written for the build."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from services.retriever.sealed import SealedView
from services.retriever.segment import GrowingSegment

_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class FullSegment:
    """A growing segment that takes no more; the log up to `covered_seq` is in it and before."""

    segment: GrowingSegment
    covered_seq: int


class _Source(Protocol):
    @property
    def ids(self) -> NDArray[np.int64]: ...
    @property
    def document_keys(self) -> NDArray[np.int64]: ...
    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]: ...


@dataclass(frozen=True, slots=True)
class Build:
    """`full` has the oldest first, `merged` are sealed."""

    full: tuple[FullSegment, ...]
    merged: tuple[SealedView, ...]

    @property
    def rows(self) -> int:
        """Live or not."""
        return sum(full.segment.rows for full in self.full) + sum(view.rows for view in self.merged)

    def write(self, folder: Path, dimensions: int) -> int:
        """Writes what is live in them, by document, and answers how many rows that is.

        `rows.npy` is int64 (2, n): passage ids and document keys; `vectors.npy`
        is float16 (n, dimensions). Vectors go from the sources to the file a
        few thousand at a time. Raises OSError.
        """
        sources: list[_Source] = [full.segment for full in self.full]
        rows = [full.segment.live_rows() for full in self.full]
        sources.extend(view.segment for view in self.merged)
        rows.extend(view.live_rows() for view in self.merged)
        keys = np.concatenate(
            [source.document_keys[at] for source, at in zip(sources, rows, strict=True)]
        )
        order = np.argsort(keys, kind="stable")
        ids = np.concatenate([source.ids[at] for source, at in zip(sources, rows, strict=True)])
        np.save(folder / "rows.npy", np.stack([ids[order], keys[order]]))
        origin = np.repeat(np.arange(len(rows), dtype=np.int32), [len(at) for at in rows])[order]
        at = np.concatenate(rows)[order]
        with (folder / "vectors.npy").open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (len(order), dimensions)}
            npy.write_array_header_1_0(file, header)
            _write_vectors(file, sources, origin, at, dimensions)
        return len(order)


def _write_vectors(
    file: BinaryIO,
    sources: Sequence[_Source],
    origin: NDArray[np.int32],
    rows: NDArray[np.int64],
    dimensions: int,
) -> None:
    for start in range(0, len(rows), _CHUNK_ROWS):
        from_, at = origin[start : start + _CHUNK_ROWS], rows[start : start + _CHUNK_ROWS]
        part = np.empty((len(at), dimensions), np.float16)
        for number in np.unique(from_).tolist():
            mine = from_ == number
            part[mine] = sources[number].vectors(at[mine])
        file.write(part.data)
