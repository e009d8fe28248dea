"""The table, the plot and the projection of measured growth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.retriever.merges import MAX_ROWS

# The projection: nodes like a common server, with as many replicas as survive the loss of one.
_NODE_BYTES = 64 * 2**30
_MEMORY_SHARE = 0.75
_REPLICAS = 2
_MEASURED_CORES = 2
_NODE_CORES = 16
_PROJECTED = (100_000_000, 1_000_000_000)
_MAX_SHARDS = 64
# Segments that are merged no more have from half of the limit to all of it.
_SEGMENT_VECTORS = 3 * MAX_ROWS // 4


@dataclass(frozen=True, slots=True)
class Row:
    """What one size and number of shards took."""

    vectors: int
    shards: int
    queries_per_second: float
    recall: float
    built_seconds: float
    """Until all was written and built."""
    resident_bytes: int
    peak_bytes: int
    disk_bytes: int
    shared: bool = False
    """Others worked on the machine meanwhile: it was slower than it can be."""


@dataclass(frozen=True, slots=True)
class Line:
    """y = base + slope * x, by least squares."""

    base: float
    slope: float

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> "Line":
        """Raises ValueError for points of fewer than two x."""
        if len({x for x, _ in points}) < 2:
            raise ValueError("a line needs two sizes")
        slope, base = np.polyfit([x for x, _ in points], [y for _, y in points], 1)
        return cls(float(base), float(slope))

    def at(self, x: float) -> float:
        return self.base + self.slope * x


@dataclass(frozen=True, slots=True)
class Projection:
    """What so many vectors would take."""

    vectors: int
    shard_vectors: int
    shards: int
    memory_bytes: float
    """Of one replica of everything."""
    nodes: int
    build_hours: float
    """Of one replica, all nodes building at a time, one build a node."""
    queries_per_second: float
    """Of all nodes, where every query asks every shard."""


def project(rows: Sequence[Row], vectors: int) -> Projection:
    """From the measured bytes and seconds a vector, which grow in proportion, and from the
    rate of one shard, which falls with the logarithm of its size until its segments are as
    large as they become, and then in proportion to how many they are."""
    memory = Line.through([(row.vectors, row.resident_bytes) for row in rows])
    build = Line.through([(row.vectors, row.built_seconds) for row in rows])
    usable = _NODE_BYTES * _MEMORY_SHARE
    node_vectors = int((usable - max(0.0, memory.base)) / memory.slope)
    nodes = math.ceil(vectors / node_vectors)
    shard_vectors = math.ceil(vectors / nodes)
    one_shard = [row for row in rows if row.shards == 1]
    cost = Line.through(
        [(math.log(row.vectors), _MEASURED_CORES / row.queries_per_second) for row in one_shard]
    )
    segments = max(1.0, shard_vectors / _SEGMENT_VECTORS)
    core_seconds = nodes * segments * cost.at(math.log(shard_vectors / segments))
    return Projection(
        vectors=vectors,
        shard_vectors=shard_vectors,
        shards=nodes,
        memory_bytes=memory.base * nodes + memory.slope * vectors,
        nodes=nodes * _REPLICAS,
        build_hours=build.slope * shard_vectors / 3600,
        queries_per_second=nodes * _REPLICAS * _NODE_CORES / core_seconds,
    )


def write(rows: Sequence[Row], folder: Path) -> None:
    """growth.md and growth.svg."""
    rows = sorted(rows, key=lambda row: (row.vectors, row.shards))
    (folder / "growth.svg").write_text(plot(rows))
    (folder / "growth.md").write_text(text(rows))


def text(rows: Sequence[Row]) -> str:
    lines = [
        "# The cost of growth",
        "",
        "Vectors of 384 dimensions in clusters like those of texts, index kind `hnsw` as it is by",
        "default, one retriever on two cores that client and server share, words indexed beside",
        "the vectors. Searches are 32 queries a message for ten candidates each, ids only. Made by",
        "`python -m benchmarks.retriever.growth`; the rows are in [growth.jsonl](growth.jsonl).",
        "Memory is the proportional set size of the server, its builders included; what is built",
        "includes the five seconds for which a shard must be left alone before its rest is sealed.",
        "",
        "| vectors | shards | queries/s | recall@10 | s until written and built | MiB resident"
        " | MiB at most | MiB on disk |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.vectors:,}{'*' if row.shared else ''} | {row.shards}"
        f" | {row.queries_per_second:,.0f} | {row.recall:.3f}"
        f" | {row.built_seconds:.0f} | {row.resident_bytes / 2**20:,.0f}"
        f" | {row.peak_bytes / 2**20:,.0f} | {row.disk_bytes / 2**20:,.0f} |"
        for row in rows
    ]
    if any(row.shared for row in rows):
        lines += [
            "",
            "\\* While others worked on the machine: rates and times are worse than alone.",
        ]
    lines += ["", "![queries a second, build time and memory by vectors](growth.svg)", ""]
    lines += _projection(rows)
    return "\n".join(lines) + "\n"


def _projection(rows: Sequence[Row]) -> list[str]:
    largest = max(row.vectors for row in rows)
    lines = [
        "## What 100 million and a billion would take",
        "",
        f"Computed, not measured: the largest that was measured is {largest:,} vectors in one",
        "process; nothing larger, no second node and no network. Memory and build time grow in",
        "proportion to the vectors. The cost of a query in one shard grows with the logarithm of",
        f"its size, and from {_SEGMENT_VECTORS:,} vectors on in proportion to its segments, which",
        "become no larger; every query asks every shard. Nodes have 16 cores and 64 GiB,",
        "three quarters of it for vectors; two replicas; one shard a node.",
        "",
        "| vectors | shards | vectors a shard | GiB a replica | nodes | hours to build"
        " | queries/s |",
        "|---|---|---|---|---|---|---|",
    ]
    projections = [project(rows, vectors) for vectors in _PROJECTED]
    lines += [
        f"| {one.vectors:,} | {one.shards} | {one.shard_vectors:,}"
        f" | {one.memory_bytes / 2**30:,.0f} | {one.nodes} | {one.build_hours:,.1f}"
        f" | {one.queries_per_second:,.0f} |"
        for one in projections
    ]
    disk = Line.through([(row.vectors, row.disk_bytes) for row in rows])
    largest_shard = projections[-1].shard_vectors
    lines += [
        "",
        "What breaks first:",
        "",
        f"1. **Segments.** None becomes larger than {MAX_ROWS:,} vectors, which bounds the time",
        f"   and memory of a merge: a shard of {largest_shard:,} has about",
        f"   {largest_shard / _SEGMENT_VECTORS:.0f} of them, and every query walks each. More and",
        "   smaller shards cost as much; larger segments, or asking fewer shards, come first.",
        f"2. **The one SQLite file.** {disk.slope:,.0f} bytes a vector on disk, index files",
        f"   included, are {disk.slope * _PROJECTED[0] / 2**40:.2f} TiB for 100 million, and one",
        "   writer takes them in; a second writer needs a shared database, which is not built.",
        f"3. **{_MAX_SHARDS} shards a collection** are the limit of the contract.",
        "4. **Memory.** Vectors are mapped, and searched fast only where they are resident:",
        "   `hnsw_sq8` or `ivf_pq` take a half to a tenth.",
    ]
    return lines


def plot(rows: Sequence[Row]) -> str:
    """Three panels, both axes logarithmic; a line for each number of shards."""
    panels = (
        ("queries/s", [(row, row.queries_per_second) for row in rows]),
        ("s until built", [(row, row.built_seconds) for row in rows]),
        ("MiB resident", [(row, row.resident_bytes / 2**20) for row in rows]),
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="900" height="300" fill="white"/>',
    ]
    for at, (title, values) in enumerate(panels):
        parts += _panel(300 * at, title, values)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: int, title: str, values: Sequence[tuple[Row, float]]) -> list[str]:
    x0, x1, y0, y1 = left + 60, left + 280, 250, 50
    sizes = sorted({row.vectors for row, _ in values})
    low_x, high_x = math.log10(sizes[0]), math.log10(sizes[-1])
    low_y = math.floor(math.log10(min(value for _, value in values)))
    high_y = math.ceil(math.log10(max(value for _, value in values)) + 1e-9)

    def place(vectors: float, value: float) -> str:
        across = (math.log10(vectors) - low_x) / max(high_x - low_x, 1e-9)
        up = (math.log10(value) - low_y) / max(high_y - low_y, 1)
        return f"{x0 + across * (x1 - x0):.1f},{y0 - up * (y0 - y1):.1f}"

    parts = [f'<text x="{x0}" y="30" font-weight="bold">{title}</text>']
    for exponent in range(low_y, high_y + 1):
        y = place(sizes[0], 10**exponent).split(",")[1]
        parts.append(f'<line x1="{x0}" y1="{y}" x2="{x1}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y}" text-anchor="end">{10**exponent:,}</text>')
    for size in sizes:
        x = place(size, 10**low_y).split(",")[0]
        parts.append(f'<text x="{x}" y="{y0 + 18}" text-anchor="middle">{size // 1000}k</text>')
    for colour, shards in zip(("#1b6ca8", "#d1495b", "#3a7d44"), (1, 2, 4), strict=True):
        points = [place(row.vectors, value) for row, value in values if row.shards == shards]
        line = " ".join(points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            x, y = point.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        parts.append(
            f'<text x="{x1 - 60}" y="{270 + 12 * (shards // 2)}" fill="{colour}">'
            f"{shards} shard{'s' if shards > 1 else ''}</text>"
        )
    return parts
