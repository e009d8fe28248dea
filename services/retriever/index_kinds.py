"""Index kinds: which FAISS index a segment gets, and why.

Quantized kinds keep their vectors beside the index, in float16, and what they find is
scored again with these.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

AUTO = "auto"
NAMED = (AUTO, "flat", "hnsw", "hnsw_sq8", "ivf_sq8", "ivf_pq")

EXACT_FACTORY = "SQfp16"
"""Compares with every vector, in float16."""

FLAT_ROWS = 2_000
"""Segments of fewer rows are flat under `auto`: comparing a query with 2,000 vectors of 384
dimensions takes 80 us, a walk of the graph 50 us, and the graph takes a quarter more memory."""

CLUSTER_ROWS = 39
"""What FAISS wants at least of rows for each centroid that it trains."""

# Rows 10,000 and 40,000 in clusters, 384 dimensions: recall@10 of SQ8 was 0.984 as found, 0.999
# with twice as many rescored, and no better with four times; PQ of 4 dimensions a byte had
# 0.962 with 4 times, 0.992 with 8; PQ of 8 dimensions a byte 0.909 with 8 and 0.962 with 16.
_RESCORE = ((0.75, 2), (0.25, 8), (0.125, 16))
_RESCORE_LEAST_BYTES = 32

# 256 lists over 10,000 rows: recall@10 0.984 with 8 probes; 800 over 40,000: 0.947 with 8,
# 0.985 with 16, 0.999 with 32.
_LEAST_PROBES = 8
_LISTS_PER_PROBE = 32
# Many candidates are spread over many lists.
_PROBED_ROWS_PER_CANDIDATE = 4


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """`kind` is a name without `auto`, or a factory string; `factory` is what FAISS is given."""

    kind: str
    factory: str


def segment_plan(index_kind: str, rows: int, dimensions: int) -> SegmentPlan:
    """The index of a segment of so many rows in a collection of this kind."""
    small = rows < FLAT_ROWS and (index_kind == AUTO or index_kind.startswith("ivf_"))
    kind = "flat" if small else "hnsw" if index_kind == AUTO else index_kind
    lists = max(1, min(round(4 * math.sqrt(rows)), rows // CLUSTER_ROWS))
    width = next(width for width in (4, 3, 2, 1) if dimensions % width == 0)
    factories = {
        "flat": EXACT_FACTORY,
        "hnsw": f"HNSW32,{EXACT_FACTORY}",
        "hnsw_sq8": "HNSW32,SQ8",
        "ivf_sq8": f"IVF{lists},SQ8",
        "ivf_pq": f"IVF{lists},PQ{dimensions // width}",
    }
    return SegmentPlan(kind, factories.get(kind, kind))


def rescored_per_candidate(code_bytes: int, dimensions: int) -> int:
    """How many times as many rows as are wanted are scored again from their vectors."""
    share = code_bytes / dimensions
    return next((factor for least, factor in _RESCORE if share >= least), _RESCORE_LEAST_BYTES)


def probes(lists: int, rows: int, live: int, candidates: int) -> int:
    """How many of an inverted file's lists are searched, where `live` of its rows count."""
    usual = max(_LEAST_PROBES, lists / _LISTS_PER_PROBE) * rows / live
    spread = _PROBED_ROWS_PER_CANDIDATE * candidates * lists / live
    return min(lists, math.ceil(max(usual, spread)))


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """`note` says why the kind is not the one that was asked for; empty: it is."""

    kind: str
    rows: int
    note: str = ""


def explain(index_kind: str, sealed: Sequence[SegmentSummary], unsealed_rows: int) -> str:
    """What indexes a collection has and why, in a few sentences."""
    parts = [_WHY.get(index_kind, f"{index_kind}: the collection asks for this FAISS index.")]
    parts.extend(_counts(sealed))
    if unsealed_rows:
        parts.append(f"{unsealed_rows:,} vectors are not in an index yet and searched exactly.")
    parts.extend(sorted({item.note for item in sealed if item.note}))
    return " ".join(parts)


def _counts(sealed: Sequence[SegmentSummary]) -> Iterator[str]:
    for kind, group in groupby(sorted(sealed, key=lambda item: item.kind), lambda item: item.kind):
        rows = [item.rows for item in group]
        size = f"{min(rows):,}" if min(rows) == max(rows) else f"{min(rows):,} to {max(rows):,}"
        yield f"{len(rows)} {kind} segment{'s' if len(rows) > 1 else ''} of {size} vectors."


_IVF = (
    f"; segments of fewer than {FLAT_ROWS:,} vectors are flat. What it finds is scored again "
    "from fp16 vectors."
)
_WHY = {
    AUTO: (
        f"auto: by the size of each segment. Fewer than {FLAT_ROWS:,} vectors are compared one "
        "by one (flat), which is as fast as a graph and exact; more are walked as a graph over "
        "fp16 vectors (hnsw)."
    ),
    "flat": "flat: every search compares with every vector; exact.",
    "hnsw": "hnsw: a graph (HNSW32) over fp16 vectors.",
    "hnsw_sq8": (
        "hnsw_sq8: a graph (HNSW32) over vectors of 8 bits a dimension. What it finds is scored "
        "again from fp16 vectors."
    ),
    "ivf_sq8": "ivf_sq8: clusters of vectors of 8 bits a dimension" + _IVF,
    "ivf_pq": "ivf_pq: clusters of product-quantized vectors, a byte for 4 dimensions" + _IVF,
}
