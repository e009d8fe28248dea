"""Builds a sealed segment's index in a process of its own: `python -m services.retriever.build`.

The process gives way to all others (nice) and ends when its parent does, which
holds the other end of its standard input. It prints what it built as JSON.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from services.retriever.built import BuiltFile, BuiltIndex, durable
from services.retriever.cells import CELLED_ROWS, make_cells, training_rows
from services.retriever.faiss_index import fp16_storage, reserve
from services.retriever.index_kinds import (
    AUTO,
    CLUSTER_ROWS,
    EXACT_FACTORY,
    SegmentPlan,
    segment_plan,
)

_NICENESS = 10
# What FAISS is given is float32: 1.5 MB at 384 dimensions. Larger parts build no faster.
_CHUNK_ROWS = 1024
_TRAINING_ROWS = 20_000
# 25 rounds, FAISS's default, took 47 s for 96 parts of 40,000 rows.
_PQ_ROUNDS = 10
_PQ_ROWS_PER_CENTROID = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="has vectors.npy, float16")
    parser.add_argument("--index-kind", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    give_way()
    faiss.omp_set_num_threads(arguments.threads)
    print(json.dumps(asdict(build(arguments.folder, arguments.index_kind))))


def give_way() -> None:
    """Makes the process one that runs beside searches, and no longer than its parent."""
    Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICENESS)
    # Never takes the processor from one that wakes up to answer a search.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def build(folder: Path, index_kind: str) -> BuiltIndex:
    """Writes the index of all rows, labels being row numbers, durably."""
    rows = VectorFile(folder / "vectors.npy")
    plan = segment_plan(index_kind, rows.count, rows.dimensions)
    try:
        index, note = _filled(plan, rows), ""
    except (RuntimeError, MemoryError) as error:
        # What was checked at creation may still want more rows than the segment has.
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        plan = segment_plan(AUTO, rows.count, rows.dimensions)
        index = _filled(plan, rows)
        note = f"A segment of {rows.count:,} vectors cannot be {index_kind} ({reason})."
    whole = fp16_storage(index) is not None
    celled = isinstance(index, faiss.IndexHNSW) and rows.count >= CELLED_ROWS
    built = _write(index, folder / "index.faiss")
    # Freed before the next is made: the peak is that of the larger one.
    del index
    vectors = None
    if not whole:
        exact = SegmentPlan("flat", EXACT_FACTORY)
        vectors = _write(_filled(exact, rows), folder / "vectors.faiss")
    centroids, cells = _write_cells(rows, folder) if celled else (None, None)
    return BuiltIndex(
        kind=plan.kind, note=note, index=built, vectors=vectors, centroids=centroids, cells=cells
    )


class VectorFile:
    """The rows of a .npy file of float16, read in parts: a mapped file would count as memory."""

    def __init__(self, file: Path) -> None:
        mapped: NDArray[np.float16] = np.load(file, mmap_mode="r")
        self.count, self.dimensions = mapped.shape
        self._file = file
        self._start = file.stat().st_size - mapped.nbytes

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        with self._file.open("rb") as file:
            file.seek(self._start)
            for start in range(0, self.count, _CHUNK_ROWS):
                rows = min(_CHUNK_ROWS, self.count - start)
                flat = np.fromfile(file, np.float16, rows * self.dimensions)
                yield flat.reshape(rows, self.dimensions).astype(np.float32)

    def sample(self, count: int) -> NDArray[np.float32]:
        """So many rows, from all over the file."""
        mapped = np.load(self._file, mmap_mode="r")
        at = np.linspace(0, self.count - 1, min(count, self.count)).astype(np.int64)
        rows: NDArray[np.float32] = mapped[at].astype(np.float32)
        return rows


def _filled(plan: SegmentPlan, rows: VectorFile) -> Any:
    # FAISS's efConstruction of 40: with 80 a build took half as long again, and recall@10 on
    # 25,000 vectors in weak clusters went from 0.943 to 0.948.
    index = faiss.index_factory(rows.dimensions, plan.factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        lists = index.nlist if isinstance(index, faiss.IndexIVF) else 0
        if lists * CLUSTER_ROWS > rows.count:
            raise RuntimeError(f"{lists} clusters need {lists * CLUSTER_ROWS:,} vectors")
        tune(index)
        index.train(rows.sample(max(_TRAINING_ROWS, lists * CLUSTER_ROWS)))
    reserve(index, rows.count)
    for chunk in rows.chunks():
        index.add(chunk)
    return index


def tune(index: Any) -> None:
    """Bounds how long a product quantizer trains."""
    part = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if hasattr(part, "pq"):
        part.pq.cp.niter = _PQ_ROUNDS
        part.pq.cp.max_points_per_centroid = _PQ_ROWS_PER_CENTROID
    if hasattr(part, "do_polysemous_training"):
        # Orders the centroids for comparing codes by bits, which no search here does: 11 of 12 s
        # for 8 parts, 150 s for 96.
        part.do_polysemous_training = False


def _write(index: Any, file: Path) -> BuiltFile:
    faiss.write_index(index, str(file))
    try:
        # FAISS does not notice when a full disk takes less than it was given.
        faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise OSError(f"{file} was not written as a whole: {error}") from error
    return durable(file)


def _write_cells(rows: VectorFile, folder: Path) -> tuple[BuiltFile, BuiltFile]:
    centroids, layout = make_cells(rows.sample(training_rows(rows.count)), rows.chunks())
    np.save(folder / "cells.npy", layout)
    return _write(centroids, folder / "centroids.faiss"), durable(folder / "cells.npy")


def _end_with_parent() -> None:
    # Not sys.stdin, whose lock would be held when the interpreter ends.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
