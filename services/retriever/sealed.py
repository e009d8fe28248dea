"""Searching sealed segments: walks, clusters, scans, and rescoring."""

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from services.retriever.filters.allowed import Allowed
from services.retriever.index_kinds import probes
from services.retriever.sealed_segment import SealedSegment
from services.retriever.segment import NO_PASSAGE, Hits, no_hits

FILTERED = Counter(
    "sirdar_retriever_filtered_segment_searches_total",
    "Queries with a filter by how a sealed segment was searched: its rows gathered, scanned, or "
    "its graph walked.",
    ("plan",),
)
FALLBACKS = Counter(
    "sirdar_retriever_short_walks_total",
    "Queries for which a walk found too few passages that are live and meet the filter, and "
    "was made wider or replaced by a scan.",
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
# A walk eight times as wide finds enough for half of those queries whose neighbourhood the filter
# takes out cluster by cluster, and for none where it takes out the whole region: it is made where
# it costs a quarter of comparing with every row.
_WIDER = 8
_HOPE = 4
# Rescoring holds the float32 vectors of this many bytes at a time.
_RESCORE_BYTES = 8 * 2**20


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

    @property
    def live(self) -> int:
        return self.rows - self.dead

    def without(self, rows: NDArray[np.int64]) -> "SealedView":
        """The view after these rows died."""
        if len(rows) == 0:
            return self
        if self.live_bits is None:
            bits = np.packbits(np.ones(self.rows, bool), bitorder="little")
        else:
            bits = self.live_bits.copy()
        masks = np.left_shift(1, rows & 7).astype(np.uint8)
        np.bitwise_and.at(bits, rows >> 3, np.bitwise_not(masks))
        return SealedView(self.segment, bits)

    def passages_of(self, document_key: int) -> NDArray[np.int64]:
        """The live passages of a document here."""
        rows = self.segment.rows_of(document_key)
        if not rows:
            return np.empty(0, np.int64)
        alive = [row for row in rows if self._is_live(row)]
        ids: NDArray[np.int64] = self.segment.ids[alive]
        return ids

    def live_rows(self) -> NDArray[np.int64]:
        """The numbers of the live rows, ascending."""
        if self.live_bits is None:
            return np.arange(self.rows)
        bits = np.unpackbits(self.live_bits, count=self.rows, bitorder="little")
        return np.flatnonzero(bits)

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
        among = self.among(allowed)
        live = among.rows - among.dead
        if ef_search is None or live <= max(
            ef_search * _ROWS_PER_EF, min(among.rows // _SCANNED_SHARE, _SCANNED_ROWS)
        ):
            FILTERED.labels("scan").inc(len(queries))
            return among._search(queries, k, None)
        # By the root of the share: with ef 91 for the half and 202 for a tenth of 50,000 rows
        # recall is what 64 gives without a filter.
        FILTERED.labels("walk").inc(len(queries))
        return among._search(queries, k, math.ceil(ef_search * math.sqrt(among.rows / live)))

    def among(self, allowed: Allowed) -> "SealedView":
        mask = allowed.mask(self.segment.document_keys, self.segment.slots)
        bits = np.packbits(mask, bitorder="little")
        return SealedView(self.segment, bits if self.live_bits is None else bits & self.live_bits)

    def _gather(self, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
        """Compares with these rows."""
        if len(rows) == 0:
            return no_hits(len(queries))
        # A flat index of their own: FAISS compares with float16 as it is, where NumPy converts
        # it first, at five times the cost.
        vectors = self.segment.vectors(rows)
        own = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        own.add_sa_codes(vectors.view(np.uint8))
        scores, places = own.search(queries, min(k, len(rows)))
        return Hits(scores, self.segment.ids[rows[places]])

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
        # Dead rows take places of the walk's answer: it asks for as many more as are likely.
        if self.dead:
            expected = wanted * self.rows / live
            wanted = min(self.rows, math.ceil(expected + 3 * math.sqrt(expected)) + 8)
        ef = max(ef_search, wanted)
        if ef * _ROWS_PER_EF >= self.rows:
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
        """The walk does not know of dead rows, or of those that a filter leaves out; they are
        taken out of its answer.

        Were they left out inside of it, a query whose neighbourhood was deleted
        would be answered from far along the way, and nothing would show it. Here
        it finds less than k, and a wider walk is made, or it is compared with
        every row instead.
        """
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        scores, rows = self.segment.index.search(queries, wanted, params=parameters)
        if self.live_bits is not None:
            alive = (self.live_bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
            rows[alive == 0] = -1
        hits = self._best(queries, k, scores, rows)
        short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
        if len(short):
            FALLBACKS.inc(len(short))
            _put(hits, short, self._again(queries[short], k, ef), k)
        return hits

    def _again(self, queries: NDArray[np.float32], k: int, ef: int) -> Hits:
        """Of queries for which a walk found too little."""
        wider = min(_WIDER * ef, self.rows)
        if wider * _ROWS_PER_EF * _HOPE < self.live:
            return self._walk(queries, k, wider, wider)
        return self._scan(queries, k)

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

    def _best(
        self,
        queries: NDArray[np.float32],
        k: int,
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> Hits:
        if self.segment.rescored > 1:
            scores, rows = self._rescore(queries, k, rows)
        return self._hits(scores, rows)

    def _rescore(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of the rows of each query by their float16 vectors."""
        scores = np.empty(rows.shape, np.float32)
        step = max(1, _RESCORE_BYTES // (4 * rows.shape[1] * queries.shape[1]))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            vectors = self.segment.vectors(np.maximum(rows[part], 0)).astype(np.float32)
            scores[part] = np.matmul(vectors, queries[part, :, None])[:, :, 0]
        scores[rows < 0] = -np.inf
        if k < rows.shape[1]:
            best = np.argpartition(scores, rows.shape[1] - k, axis=1)[:, rows.shape[1] - k :]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        return scores, rows

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

    def _are_live(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.live_bits is None:
            return np.ones(len(rows), bool)
        bits = self.live_bits[rows >> 3] >> (rows & 7).astype(np.uint8)
        alive: NDArray[np.bool_] = (bits & 1).astype(bool)
        return alive


def _put(hits: Hits, queries: NDArray[np.int64], found: Hits, k: int) -> None:
    """Puts the k best of other hits in the place of those of some queries."""
    best = np.argsort(-found.scores, axis=1, kind="stable")[:, :k]
    hits.scores[queries] = -np.inf
    hits.ids[queries] = NO_PASSAGE
    hits.scores[queries, :k] = np.take_along_axis(found.scores, best, axis=1)
    hits.ids[queries, :k] = np.take_along_axis(found.ids, best, axis=1)
