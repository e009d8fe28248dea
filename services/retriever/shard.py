"""A shard: a growing segment, full ones that wait to be sealed, and sealed ones.

Its content is the store's log up to `applied_seq`; applying the log again
changes nothing, so it may be replayed from any point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Lock

import numpy as np
import structlog
from numpy.typing import NDArray

from services.retriever.applied import AppliedSeq
from services.retriever.lexical.shard import LexicalShard
from services.retriever.sealed import SealedSegment, SealedView
from services.retriever.segment import GrowingSegment, Rows, SegmentView
from services.retriever.shard_folder import SealedState, ShardFolder
from services.retriever.store.records import Change, Generation

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ShardState(Enum):
    OPENING = "opening"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ShardView:
    """What one search sees of a shard."""

    segments: tuple[SegmentView, ...]
    applied_seq: int


@dataclass(frozen=True, slots=True)
class FullSegment:
    """A growing segment that takes no more; the log up to `covered_seq` is in it and before."""

    segment: GrowingSegment
    covered_seq: int


@dataclass(frozen=True, slots=True)
class Build:
    """Segments that become one sealed segment; `full` has the oldest first."""

    full: tuple[FullSegment, ...]
    merged: tuple[SealedView, ...]

    def rows(self) -> Rows:
        """What is live in them, by document."""
        parts = [full.segment.live_rows() for full in self.full]
        parts.extend(view.live_rows() for view in self.merged)
        keys = np.concatenate([part.document_keys for part in parts])
        order = np.argsort(keys, kind="stable")
        return Rows(
            np.concatenate([part.ids for part in parts])[order],
            keys[order],
            np.concatenate([part.vectors for part in parts])[order],
        )


class Shard:
    """`apply` is called by the store's writing thread, `install` by the sealer's, `view` by
    any: a search takes the view and never waits for either."""

    def __init__(
        self,
        generation: Generation,
        number: int,
        folder: ShardFolder,
        *,
        seal_vectors: int,
        on_full: "Callable[[Shard], None]",
    ) -> None:
        self.generation = generation
        self.number = number
        self.folder = folder
        # Its words; None: the collection has no lexical index.
        self.lexical: LexicalShard | None = None
        self.state = ShardState.OPENING
        self.applied = AppliedSeq()
        # The last commit that is known of; ahead of `applied` for as long as applying takes.
        self.committed_seq = 0
        # Its collection was deleted: nothing is sealed any more.
        self.dropped = False
        self._seal_vectors = seal_vectors
        self._on_full = on_full
        self._lock = Lock()
        self._growing = GrowingSegment(generation.space.dimensions)
        self._full: list[FullSegment] = []
        self._sealed: list[SealedView] = []
        self.view = ShardView((), 0)

    @property
    def full_segments(self) -> int:
        return len(self._full)

    @property
    def growing_segments(self) -> int:
        return len(self._full) + (1 if self._growing.rows else 0)

    @property
    def sealed_segments(self) -> int:
        return len(self._sealed)

    def restore(self, state: SealedState) -> None:
        """Starts from the sealed segments; the log beyond them is applied next."""
        self._sealed = list(state.views)
        self._advance(state.covered_seq)

    def ready(self, committed_seq: int) -> None:
        """All that was committed when the shard was opened is applied."""
        with self._lock:
            self.state = ShardState.READY
            self._advance(max(committed_seq, self.view.applied_seq))

    def apply(self, changes: Sequence[Change]) -> None:
        """Applies changes of this shard, in the order of their sequences."""
        if self.state is ShardState.FAILED:
            return
        full = False
        with self._lock:
            self._apply(changes)
            if self._growing.rows >= self._seal_vectors:
                self._full.append(FullSegment(self._growing, changes[-1].position.seq))
                self._growing = GrowingSegment(self.generation.space.dimensions)
                full = True
            self._advance(changes[-1].position.seq)
        if full:
            self._on_full(self)

    def next_build(self) -> Build | None:
        """What is to be sealed next: all full segments together with the last sealed ones
        that are not larger than what comes before, so that a shard of n vectors has
        about log2(n / seal_vectors) sealed segments. None: nothing is full."""
        with self._lock:
            if not self._full:
                return None
            rows = sum(full.segment.rows for full in self._full)
            merged: list[SealedView] = []
            for view in reversed(self._sealed):
                if view.rows > rows:
                    break
                merged.append(view)
                rows += view.rows
            return Build(tuple(self._full), tuple(merged))

    def install(self, build: Build, sealed: SealedSegment | None) -> None:
        """Puts a sealed segment in the place of those that it was built from.

        None: nothing of them was live. Raises OSError when the manifest cannot
        be written: the segment is served, and built again after a restart.
        """
        with self._lock:
            gone = {id(view.segment) for view in build.merged}
            sources = [view for view in self._sealed if id(view.segment) in gone]
            kept = [view for view in self._sealed if id(view.segment) not in gone]
            if sealed is not None:
                # Less what died while the index was being built.
                live = [full.segment.live_ids() for full in build.full]
                live.extend(view.live_ids() for view in sources)
                dead = ~np.isin(sealed.ids, np.concatenate(live))
                kept.append(SealedView(sealed).without(np.flatnonzero(dead)))
            self._sealed = kept
            self._full = [full for full in self._full if full not in build.full]
            self._advance(self.view.applied_seq)
        self.folder.record(kept, build.full[-1].covered_seq)

    def _apply(self, changes: Sequence[Change]) -> None:
        moved = [change for change in changes if not change.kept]
        if not moved:
            return
        keys = np.array([change.document_key for change in moved], np.int64)
        # Live passages of these documents in sealed segments; most documents are new.
        placed: set[int] = set()
        for at, view in enumerate(self._sealed):
            dead: list[int] = []
            for index in np.flatnonzero(view.segment.holds(keys)).tolist():
                change = moved[index]
                if _same(view.passages_of(change.document_key), change):
                    placed.add(index)
                else:
                    dead.extend(view.segment.rows_of(change.document_key))
            self._sealed[at] = view.without(np.array(dead, np.int64))
        for index, change in enumerate(moved):
            self._place(change, placed=index in placed)

    def _place(self, change: Change, *, placed: bool) -> None:
        """Puts a document's passages into the growing segment unless they are somewhere."""
        key = change.document_key
        for segment in (self._growing, *(full.segment for full in self._full)):
            if _same(segment.passages_of(key), change):
                placed = True
            else:
                segment.remove(key)
        if not placed and len(change.passage_ids):
            self._growing.add(key, change.passage_ids, change.vectors)

    def _advance(self, seq: int) -> None:
        """Publishes a view of everything as it is now."""
        growing = [full.segment.view() for full in self._full]
        if self._growing.rows:
            growing.append(self._growing.view())
        self.view = ShardView((*self._sealed, *growing), seq)
        self.committed_seq = max(self.committed_seq, seq)
        self.applied.advance(seq)


def _same(ids: NDArray[np.int64], change: Change) -> bool:
    return len(ids) > 0 and np.array_equal(ids, change.passage_ids)
