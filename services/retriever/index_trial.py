"""Whether a FAISS factory string can be the index of a segment: it is tried in a process with
bounded memory and time, `python -m services.retriever.index_trial`, before a collection has it."""

import argparse
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from services.retriever.build import give_way, tune
from services.retriever.build_child import BuildFailed, run_child
from services.retriever.faiss_index import map_index
from services.retriever.index_kinds import NAMED
from sirdar.errors import InvalidArgument

FIELD = "collection.generation.index_kind"
_USE = f"use {', '.join(NAMED)}, or a FAISS factory string such as HNSW48,SQ8 or IVF1024,PQ64"

MAX_CHARACTERS = 64
MAX_LISTS = 65_536
MAX_LINKS = 128
MAX_PQ_BITS = 8
"""A quantizer of 16 bits trains 65,536 centroids for every part of a vector."""

_TRIAL_SECONDS = 60
_TRIAL_BYTES = 6 * 2**30
_TRIAL_ROWS = 1024
_TRIAL_LISTS = "IVF16"


def check(index_kind: str, dimensions: int) -> None:
    """Raises InvalidArgument that names the field, says what is wrong and what to use."""
    if index_kind in NAMED:
        return
    fault = _beyond_limits(index_kind) or _trial(index_kind, dimensions)
    if fault:
        raise InvalidArgument.field(
            FIELD, f"cannot be {index_kind[:MAX_CHARACTERS]}: {fault}; {_USE}"
        )


def _beyond_limits(factory: str) -> str:
    if len(factory) > MAX_CHARACTERS or not re.fullmatch(r"[A-Za-z0-9_,()]+", factory):
        return f"it is not at most {MAX_CHARACTERS} letters, digits and `_,()`"
    limits = (
        (r"IVF(\d+)", MAX_LISTS, "clusters"),
        (r"IMI\d+x(\d+)", MAX_PQ_BITS, "bits"),
        (r"HNSW(\d+)", MAX_LINKS, "links"),
        (r"PQ\d+x(\d+)", MAX_PQ_BITS, "bits"),
        (r"\d+x(\d+)", MAX_PQ_BITS, "bits"),
        (r"(\d+)", MAX_LISTS, "of anything"),
    )
    for pattern, limit, unit in limits:
        if any(int(number) > limit for number in re.findall(pattern, factory)):
            return f"more than {limit:,} {unit} would take the memory of the machine"
    return ""


def _trial(factory: str, dimensions: int) -> str:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sirdar-index-") as folder:
        try:
            output = run_child(
                "services.retriever.index_trial",
                *("--factory", factory, "--dimensions", str(dimensions), "--folder", folder),
                errors=Path(folder) / "errors",
                stopped=lambda: time.monotonic() - started > _TRIAL_SECONDS,
            )
        except BuildFailed as error:
            return f"a trial failed ({error})"
    return output.decode().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factory", required=True)
    parser.add_argument("--dimensions", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    give_way()
    resource.setrlimit(resource.RLIMIT_AS, (_TRIAL_BYTES, _TRIAL_BYTES))
    faiss.omp_set_num_threads(1)
    # Clusters are trained when there are rows enough, which is seen then.
    factory = re.sub(r"IVF\d+", _TRIAL_LISTS, arguments.factory)
    try:
        print(fault_of(factory, arguments.dimensions, arguments.folder / "index"))
    except (RuntimeError, MemoryError) as error:
        print(f"FAISS refuses it ({(str(error).strip() or repr(error)).splitlines()[-1]})")


def fault_of(factory: str, dimensions: int, file: Path) -> str:
    """What is wrong with it; empty: nothing. Raises what FAISS raises."""
    whole = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    index: Any = faiss.downcast_index(whole)
    if isinstance(index, (faiss.IndexPreTransform, faiss.IndexIDMap)):
        return "vectors are not transformed and rows not renamed in a segment"
    if isinstance(index, faiss.IndexRefine):
        return "what quantized indexes find is rescored anyway, without a refining index"
    rows = np.random.default_rng(0).standard_normal((_TRIAL_ROWS, dimensions), np.float32)
    if not index.is_trained:
        tune(index)
        index.train(rows)
    index.add(rows)
    faiss.write_index(index, str(file))
    mapped = map_index(file)
    if isinstance(mapped, faiss.IndexHNSW):
        mapped.search(rows[:2], 5, params=faiss.SearchParametersHNSW(efSearch=16))
        return ""
    some = faiss.IDSelectorRange(0, 100)
    try:
        if isinstance(mapped, faiss.IndexIVF):
            parameters: Any = faiss.SearchParametersIVF(sel=some, nprobe=4)
        else:
            parameters = faiss.SearchParameters(sel=some)
        _, found = mapped.search(rows[:2], 5, params=parameters)
    except RuntimeError:
        return "its searches cannot leave deleted rows out (no IDSelector)"
    return "" if (found < 100).all() else "its searches do not leave deleted rows out"


if __name__ == "__main__":
    main()
