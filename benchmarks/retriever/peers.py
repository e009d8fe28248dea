"""A sealed segment, called in process, beside hnswlib, usearch and qdrant-edge.

The same vectors in graphs of the same degree, the same threads, one call with
all queries where the library takes one. Curves over the width of the search are
compared at equal recall. They have an environment of their own, from
peers-requirements.txt.
"""

import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.command import Figures
from benchmarks.harness.environment import environment_folder
from benchmarks.retriever import peer_process
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.corpus import K, nearest, recall
from benchmarks.retriever.curves import Point, at_recall
from services.runtime.cpu import available_cpus

_REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
_PROCESS = Path(__file__).with_name("peer_process.py")
_RECALLS = (0.90, 0.95, 0.98)
_BAR = 0.95
_BATCH = 256


def measure(bench: Bench) -> Figures:
    """Queries a second over those of the best of the others at recall@10 0.95."""
    assert bench.load
    file = max(bench.segment_files(COLLECTION), key=lambda file: file.stat().st_size)
    index: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    # As the store rounds them, which is what the segment was built from.
    vectors = faiss.downcast_index(index.storage).reconstruct_n(0, index.ntotal)
    queries = bench.corpus.queries
    truth = nearest(vectors, queries, K)
    bench.say(f"peers: a sealed segment of {len(vectors)} vectors")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for kind, array in (("vectors", vectors), ("queries", queries), ("truth", truth)):
            np.save(folder / f"{kind}.npy", array)
        curves = {library: _peer(library, folder) for library in peer_process.LIBRARIES}
        curves["sirdar"] = _own(index, queries, truth)
    for library, curve in curves.items():
        said = ", ".join(f"{one.recall:.3f} {one.queries_per_second:.0f}" for one in curve)
        bench.say(f"{library}: recall and queries/s {said}")
    figures: Figures = {}
    for wanted in _RECALLS:
        rates = {library: at_recall(curve, wanted) for library, curve in curves.items()}
        own = rates.pop("sirdar")
        best = max((rate for rate in rates.values() if rate is not None), default=None)
        if own is None or best is None:
            continue
        bench.say(f"at recall {wanted}: Sirdar {own:.0f} queries/s, the best other {best:.0f}")
        figures[f"over_best_peer_at_{wanted:.2f}"] = own / best
        if wanted == _BAR:
            figures["over_best_peer"] = own / best
    return figures


def _peer(library: str, folder: Path) -> list[Point]:
    python = environment_folder("peers", _REQUIREMENTS) / "bin" / "python"
    files = [str(folder / f"{name}.npy") for name in ("vectors", "queries", "truth")]
    command = [str(python), str(_PROCESS), library, *files, str(available_cpus())]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [Point(*map(float, line.split())) for line in output.splitlines()]


def _own(index: Any, queries: NDArray[np.float32], truth: NDArray[np.int64]) -> list[Point]:
    """Of the retriever's segment, in batches as it searches them."""
    faiss.omp_set_num_threads(available_cpus())
    # A mapped file: the first queries read it from the disk.
    for _ in range(peer_process.TURNS):
        index.search(queries, K, params=faiss.SearchParametersHNSW(efSearch=256))
    curve = []
    for width in peer_process.WIDTHS:
        parameters = faiss.SearchParametersHNSW(efSearch=width)
        found = index.search(queries, K, params=parameters)[1].tolist()
        rates = []
        for _ in range(peer_process.TURNS):
            started = time.perf_counter()
            for start in range(0, len(queries), _BATCH):
                index.search(queries[start : start + _BATCH], K, params=parameters)
            rates.append(len(queries) / (time.perf_counter() - started))
        curve.append(Point(recall(found, truth.tolist()), sorted(rates)[len(rates) // 2]))
    return curve
