"""Filters of four selectivities: recall, and the latency over that without a filter.

`independent` has nothing to do with the vectors. Of `correlated`, `near` are
documents like the query, `far` those that are least like it: the ten best that
meet the filter are then nowhere on the way of a walk that does not know of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import found_documents, searches, single_seconds
from benchmarks.retriever.corpus import (
    CORRELATED,
    INDEPENDENT,
    VALUES,
    Corpus,
    K,
    nearest,
    recall,
)
from sirdar.v1 import document_pb2, filter_pb2

_SELECTIVITIES = (0.001, 0.01, 0.1, 0.5)
_EDGES = (0.001, 0.5)
_INDEPENDENT, _NEAR, _FAR = "independent", "near", "far"
_TURNS = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and the range [start, start + width) of a field that it is restricted to."""

    query: int
    field: str
    start: int
    width: int

    def message(self) -> filter_pb2.Filter:
        return filter_pb2.Filter(
            range=filter_pb2.RangeCondition(
                field=self.field,
                at_least=document_pb2.MetadataValue(int64_value=self.start),
                less_than=document_pb2.MetadataValue(int64_value=self.start + self.width),
            )
        )


def asked(corpus: Corpus, kind: str, selectivity: float, count: int) -> Iterator[Asked]:
    """The first so many queries with the ranges of a kind."""
    width = round(selectivity * VALUES)
    last = VALUES // width - 1
    for query in range(count):
        own = min(int(corpus.query_correlated[query]) // width, last)
        place = {
            _INDEPENDENT: query % (last + 1),
            _NEAR: own,
            _FAR: 0 if own > last / 2 else last,
        }[kind]
        field = INDEPENDENT if kind == _INDEPENDENT else CORRELATED
        yield Asked(query, field, place * width, width)


def truth(corpus: Corpus, one: Asked) -> list[int]:
    """The rows of the K best documents that meet the filter."""
    values: NDArray[np.int64] = getattr(corpus, one.field)
    rows = np.flatnonzero((values >= one.start) & (values < one.start + one.width))
    best = nearest(corpus.vectors[rows], corpus.queries[one.query : one.query + 1], K)
    found: list[int] = rows[best[0]].tolist()
    return found


def measure(bench: Bench) -> Figures:
    """The worst recall of all kinds and selectivities, and the worst ratios of medians."""
    assert bench.load
    recalls: list[float] = []
    ratios: dict[float, list[float]] = {selectivity: [] for selectivity in _SELECTIVITIES}
    for selectivity in _SELECTIVITIES:
        for kind in (_INDEPENDENT, _NEAR, _FAR):
            found, ratio = _cell(bench, kind, selectivity)
            recalls.append(found)
            ratios[selectivity].append(ratio)
            bench.say(
                f"filter {kind} {selectivity:.1%}: recall@{K} {found:.4f}, latency {ratio:.2f} "
                "times that without"
            )
    return {
        "filter_recall": min(recalls),
        "filter_latency_ratio_edge": max(
            ratio for selectivity in _EDGES for ratio in ratios[selectivity]
        ),
        "filter_latency_ratio_mid": max(
            ratio
            for selectivity in _SELECTIVITIES
            if selectivity not in _EDGES
            for ratio in ratios[selectivity]
        ),
    }


def _cell(bench: Bench, kind: str, selectivity: float) -> tuple[float, float]:
    """Recall, and the ratio of the medians of calls one after another."""
    corpus = bench.corpus
    chosen = list(asked(corpus, kind, selectivity, bench.scale.filter_queries))
    full, bare, plain = [], [], []
    for one in chosen:
        query = corpus.queries[one.query : one.query + 1]
        full += searches(
            COLLECTION, query, 1, filter=one.message(), ids_only=False, documents_with_text=0
        )
        bare += searches(COLLECTION, query, 1, filter=one.message())
        plain += searches(COLLECTION, query, 1)
    found = bench.callers.run(found_documents, bench.address, full)
    with_filter: list[float] = []
    without: list[float] = []
    for _ in range(_TURNS):
        without += bench.callers.run(single_seconds, bench.address, plain)
        with_filter += bench.callers.run(single_seconds, bench.address, bare)
    ratio = median(with_filter) / median(without)
    return recall(found, [truth(corpus, one) for one in chosen]), ratio
