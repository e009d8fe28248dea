"""Searching sealed segments: which way for a query, with and without a filter."""

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from services.retriever.cells import Cells
from services.retriever.filters.allowed import Allowed
from services.retriever.index_kinds import probes
from services.retriever.sealed_rows import SealedRows
from services.retriever.segment import NO_PASSAGE, Hits, no_hits

FILTERED = Counter(
    "sirdar_retriever_filtered_segment_searches_total",
    "Queries with a filter by how a sealed segment was searched: its graph walked, its rows "
    "gathered, scanned, or those of the nearest cells compared with.",
    ("plan",),
)
for _plan in ("cells", "gather", "scan", "walk"):
    FILTERED.labels(_plan)
FALLBACKS = Counter(
    "sirdar_retriever_short_walks_total",
    "Queries for which a walk found too few passages that are live and meet the filter, and "
    "was made wider or replaced by comparing.",
)

# A step of the graph costs as much as scanning 20 to 40 rows (10,000 rows, 384 dimensions):
# wider walks than this are slower than comparing with every row, and worse.
_ROWS_PER_EF = 20
# Where an eighth of the rows is live, comparing with all of them finds everything, whatever goes
# with the filter or against it, and takes 2.4 ms of 200,000 rows (90 ns each, 1.5 ns for each that
# is passed over) where a walk that is wide enough takes 0.4 ms; beyond 25,000 rows it takes too
# long.
_SCANNED_SHARE = 8
_SCANNED_ROWS = 25_000
# Gathering takes 0.02 ms for 200 rows and 0.4 ms for 2,000; beyond that the copy leaves the cache,
# and passing over the other rows costs less.
_GATHERED_ROWS = 2048
# Around a query: the cells that have most of its ten best.
_CELLS_AROUND = 4
# With a fourth of what is around the query a walk that is wide enough (ef 128) takes 0.2 ms of
# 40,000 rows, comparing with the nearest cells that have enough 0.4 ms.
_WALKED_SHARE = 0.25
# A walk eight times as wide finds enough for half of those queries whose
# neighbourhood the filter takes out cluster by cluster, and for none where it takes out the whole
# region: it is made where it costs a quarter of comparing with every row.
_WIDER = 8
_HOPE = 4


class SealedView(SealedRows):
    """What one search sees of a sealed segment."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef_search: int | None,
        allowed: Allowed | None = None,
    ) -> Hits:
        if allowed is None:
            return self._search(queries, k, ef_search)
        rows = allowed.rows(self.segment.document_keys)
        if rows is not None and len(rows) <= _GATHERED_ROWS:
            FILTERED.labels("gather").inc(len(queries))
            return self._gather(queries, rows[self._are_live(rows)], k)
        if ef_search is None:
            FILTERED.labels("scan").inc(len(queries))
            return self.among(allowed)._search(queries, k, None)
        if self.segment.cells is None:
            return self.among(allowed)._search_among(queries, k, ef_search)
        return self._search_around(queries, k, ef_search, allowed, self.segment.cells)

    def _search_around(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef_search: int,
        allowed: Allowed,
        cells: Cells,
    ) -> Hits:
        """Walks where enough of what is around a query may be answered."""
        shares = self._shares(cells.nearest(queries, _CELLS_AROUND), allowed, cells)
        near, left = np.flatnonzero(shares >= _WALKED_SHARE), np.flatnonzero(shares < _WALKED_SHARE)
        share = float(shares[near].min(initial=1.0))
        wanted = _wanted(k * self.segment.rescored, share)
        ef = max(_wider(ef_search, share), wanted)
        if len(near) and ef * _ROWS_PER_EF < self.rows:
            FILTERED.labels("walk").inc(len(near))
            walks, short = self._walk(queries[near], k, wanted, ef, allowed)
            if not len(left) and not len(short):
                return walks
            left = np.sort(np.concatenate([left, near[short]]))
        else:
            walks, left = no_hits(0), np.arange(len(queries))
        rest = self.among(allowed)._search_among(queries[left], k, ef_search)
        if len(left) == len(queries):
            return rest
        hits = Hits(np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64))
        _put(hits, near, walks, k)
        _put(hits, left, rest, k)
        return hits

    def _shares(
        self, around: NDArray[np.int64], allowed: Allowed, cells: Cells
    ) -> NDArray[np.float64]:
        """How much of the cells around each query, (n, c), may be answered; (n)."""
        if allowed.made(self):
            return cells.share(around, self.among(allowed)._live_of_cells)
        # A filter that was not asked before: the few rows of these cells cost less than all.
        return np.array([self._are_live(cells.rows_of(some), allowed).mean() for some in around])

    def _search_among(self, queries: NDArray[np.float32], k: int, ef_search: int) -> Hits:
        """Where the rows that a filter leaves out are dead ones."""
        live = self.live
        if live <= max(ef_search * _ROWS_PER_EF, min(self.rows // _SCANNED_SHARE, _SCANNED_ROWS)):
            FILTERED.labels("scan").inc(len(queries))
            return self._search(queries, k, None)
        if self.segment.cells is not None:
            FILTERED.labels("cells").inc(len(queries))
            return self._compare(queries, min(k, live), self.segment.cells)
        FILTERED.labels("walk").inc(len(queries))
        return self._search(queries, k, _wider(ef_search, live / self.rows))

    def _search(self, queries: NDArray[np.float32], k: int, ef_search: int | None) -> Hits:
        live = self.live
        k = min(k, live)
        if k == 0:
            return no_hits(len(queries))
        if ef_search is None or self.segment.index is self.segment.storage:
            return self._scan(queries, k)
        wanted = min(live, k * self.segment.rescored)
        if not isinstance(self.segment.index, faiss.IndexHNSW):
            return self._pick(queries, k, wanted)
        if self.dead:
            wanted = min(self.rows, _wanted(wanted, live / self.rows))
        ef = max(ef_search, wanted)
        if ef * _ROWS_PER_EF >= self.rows:
            return self._scan(queries, k)
        hits, short = self._walk(queries, k, wanted, ef)
        if len(short):
            _put(hits, short, self._again(queries[short], k, ef), k)
        return hits

    def _walk(
        self,
        queries: NDArray[np.float32],
        k: int,
        wanted: int,
        ef: int,
        allowed: Allowed | None = None,
    ) -> tuple[Hits, NDArray[np.int64]]:
        """What a walk finds, and the queries for which that is less than k.

        The walk does not know of dead rows, or of those that a filter leaves out;
        they are taken out of its answer. Were they left out inside of it, a query
        whose neighbourhood was deleted would be answered from far along the way,
        and nothing would show it.
        """
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        scores, rows = self.segment.index.search(queries, wanted, params=parameters)
        if self.live_bits is not None or allowed is not None:
            rows[~self._are_live(rows, allowed)] = -1
        hits = self._best(queries, k, scores, rows)
        short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
        if len(short):
            FALLBACKS.inc(len(short))
        return hits, short

    def _again(self, queries: NDArray[np.float32], k: int, ef: int) -> Hits:
        """Of queries for which a walk found too little."""
        wider = min(_WIDER * ef, self.rows)
        if wider * _ROWS_PER_EF * _HOPE >= self.live:
            return self._scan(queries, k)
        hits, short = self._walk(queries, k, wider, wider)
        if len(short):
            _put(hits, short, self._again(queries[short], k, wider), k)
        return hits

    def _pick(self, queries: NDArray[np.float32], k: int, wanted: int) -> Hits:
        """From an index that compares with codes, and itself leaves dead rows out."""
        index = self.segment.index
        if isinstance(index, faiss.IndexIVF):
            parameters: Any = faiss.SearchParametersIVF(
                sel=self._selector, nprobe=probes(index.nlist, self.rows, self.live, wanted)
            )
        else:
            parameters = faiss.SearchParameters(sel=self._selector)
        scores, rows = index.search(queries, wanted, params=parameters)
        hits = self._best(queries, k, scores, rows)
        short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
        if len(short):
            FALLBACKS.inc(len(short))
            _put(hits, short, self._scan(queries[short], k), k)
        return hits


def _wanted(rows: int, share: float) -> int:
    """How many rows a walk is asked for so that so many of them are live: the dead ones among
    the best take places of its answer."""
    if share == 1.0:
        return rows
    expected = rows / share
    return math.ceil(expected + 3 * math.sqrt(expected)) + 8


def _wider(ef_search: int, share: float) -> int:
    """By the root of the share that is live: with ef 91 for the half and 202 for a tenth of
    50,000 rows recall is what 64 gives for all."""
    return math.ceil(ef_search / math.sqrt(share))


def _put(hits: Hits, queries: NDArray[np.int64], found: Hits, k: int) -> None:
    """Puts the k best of other hits in the place of those of some queries."""
    best = np.argsort(-found.scores, axis=1, kind="stable")[:, :k]
    hits.scores[queries] = -np.inf
    hits.ids[queries] = NO_PASSAGE
    width = best.shape[1]
    hits.scores[queries, :width] = np.take_along_axis(found.scores, best, axis=1)
    hits.ids[queries, :width] = np.take_along_axis(found.ids, best, axis=1)
