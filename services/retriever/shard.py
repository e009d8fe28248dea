"""A shard: a growing segment, full ones that wait to be sealed, and sealed ones.

Its content is the store's log up to `applied_seq`; applying the log again
changes nothing, so it may be replayed from any point. The log has each document
once, in its last place: read in parts while it is written to, it may show in a
later part only what was written before the end of an earlier one. So
`applied_seq` stays behind `replayed_seq` until all of it was read.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock

import numpy as np
import structlog
from numpy.typing import NDArray

from services.retriever import merges
from services.retriever.applied import AppliedSeq
from services.retriever.filters.allowed import Allowed
from services.retriever.filters.columns import Columns, ColumnsView, Version
from services.retriever.filters.conditions import Condition
from services.retriever.filters.known import KnownFilters
from services.retriever.index_kinds import SegmentSummary
from services.retriever.lexical.shard import LexicalShard
from services.retriever.sealed import SealedView
from services.retriever.sealed_segment import SealedSegment
from services.retriever.segment import GrowingSegment, SegmentView
from services.retriever.segment_build import Build, FullSegment
from services.retriever.shard_folder import SealedState, ShardFolder
from services.retriever.store.interface import Store
from services.retriever.store.records import Change, FieldSchema, Generation
from services.retriever.store.tombstones import DocumentKeys

log: structlog.stdlib.BoundLogger = structlog.get_logger()


QUIET_ROWS = 1000
"""A growing segment of this many vectors is sealed when its shard is left alone: then it takes
less memory, is searched faster, and is not replayed after a restart."""


class ShardState(Enum):
    OPENING = "opening"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ShardView:
    """What one search sees of a shard."""

    segments: tuple[SegmentView, ...]
    applied_seq: int
    # None: the collection has no schema.
    columns: ColumnsView | None = None
    known: KnownFilters = field(default_factory=KnownFilters, compare=False, repr=False)

    def allowed(self, condition: Condition) -> Allowed:
        """What meets a filter here; nothing without a schema."""
        return self.known.allowed(condition, self.columns or Columns(()).view())


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
        on_change: "Callable[[Shard], None]",
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
        # The log is to be read on from here.
        self.replayed_seq = 0
        # No deletion up to here was missed, although its tombstone may be gone.
        self.purged_seq = 0
        # Its collection was deleted, or it was taken away: nothing is sealed any more.
        self.dropped = False
        # Others that have it are to be asked: it has just moved here and is not whole yet, or it
        # was taken away.
        self.elsewhere = False
        # It will be taken away.
        self.leaving = False
        # Searches under way, which need its files.
        self.searches = 0
        self._seal_vectors = seal_vectors
        self._on_change = on_change
        self._lock = Lock()
        self._growing = GrowingSegment(generation.space.dimensions)
        self._full: list[FullSegment] = []
        self._sealed: list[SealedView] = []
        # The log up to here is in what the manifest says.
        self._covered_seq = 0
        self.unrecorded = False
        self._changed = time.monotonic()
        # Documents that changed while a build is under way.
        self._changed_keys: list[int] | None = None
        self._columns: Columns | None = None
        # What is applied while columns are made; None: none are.
        self._arrived: list[Version] | None = None
        self.view = ShardView((), 0)

    @property
    def full_segments(self) -> int:
        return len(self._full)

    @property
    def unsealed_rows(self) -> int:
        """Vectors that are searched exactly and held in memory."""
        return sum(full.segment.rows for full in self._full) + self._growing.rows

    @property
    def growing_segments(self) -> int:
        return len(self._full) + (1 if self._growing.rows else 0)

    @property
    def sealed_segments(self) -> int:
        return len(self._sealed)

    def sealed_summaries(self) -> list[SegmentSummary]:
        return [
            SegmentSummary(view.segment.kind, view.rows, view.segment.note) for view in self._sealed
        ]

    def restore(self, state: SealedState) -> None:
        """Starts from the sealed segments; the log beyond them is applied next."""
        self._sealed = list(state.views)
        self._covered_seq = state.covered_seq
        self._advance(state.covered_seq)

    def ready(self, committed_seq: int) -> None:
        """All that was committed when the shard was opened is applied."""
        with self._lock:
            self.state = ShardState.READY
            self._advance(max(committed_seq, self.replayed_seq))
        self._on_change(self)

    def apply(self, changes: Sequence[Change], *, whole: bool = True) -> None:
        """Applies changes of this shard, in the order of their sequences. Not `whole`: there
        were more to be read, and what was committed before these may be among them."""
        if self.state is ShardState.FAILED:
            return
        with self._lock:
            self._apply(changes)
            self._changed = time.monotonic()
            self._apply_to_columns(changes)
            self.replayed_seq = changes[-1].position.seq
            if self._growing.rows >= self._seal_vectors:
                self._freeze(self.replayed_seq)
            self._advance(self.replayed_seq if whole else self.view.applied_seq)
        self._on_change(self)

    def keep_only(self, there: DocumentKeys) -> None:
        """Takes out what is not there any more: deletions were missed. Called by who reads the
        log, while nobody else applies changes."""
        with self._lock:
            for at, view in enumerate(self._sealed):
                gone = np.flatnonzero(there.lack(view.segment.document_keys))
                self._sealed[at] = view.without(gone)
                self._note_all(np.unique(view.segment.document_keys[gone]))
            for segment in (self._growing, *(full.segment for full in self._full)):
                keys = np.unique(segment.document_keys)
                for key in keys[there.lack(keys)].tolist():
                    if segment.remove(key):
                        self._note(key)
            if self._columns is not None:
                self._columns.keep_only(there)
            self.purged_seq = there.purged_seq
            self._advance(self.view.applied_seq)

    def make_columns(self, schema: Sequence[FieldSchema], language: str, store: Store) -> None:
        """Makes the columns anew from the store, beside searches and writes."""
        with self._lock:
            self._arrived = []
        columns = Columns(schema, language)
        try:
            columns.apply(store.metadata(self.generation, self.number))
            with self._lock:
                columns = columns.with_room(self._arrived)
                columns.apply(self._arrived)
                self._columns, self._arrived = columns, None
                self._advance(self.view.applied_seq)
        finally:
            with self._lock:
                self._arrived = None

    def build_in_seconds(self, quiet_seconds: float) -> float | None:
        """When there will be something to build if the shard does not change; None: never."""
        with self._lock:
            if self.unrecorded or self._full or merges.merge(self._sealed, quiet=False):
                return 0.0
            if self._growing.rows >= QUIET_ROWS or merges.merge(self._sealed, quiet=True):
                return max(0.0, self._changed + quiet_seconds - time.monotonic())
            return None

    def next_build(self, quiet_seconds: float) -> Build | None:
        """What is to be built next: all full segments into one, together with sealed ones that
        are no larger; else what `merges` says. None: nothing, for as long as the shard
        changes."""
        with self._lock:
            quiet = time.monotonic() - self._changed >= quiet_seconds
            if quiet and not self._full and self._growing.rows >= QUIET_ROWS:
                self._freeze(self.replayed_seq)
            if self._full:
                rows = sum(full.segment.rows for full in self._full)
                build = Build(tuple(self._full), merges.along(self._sealed, rows))
            else:
                build = Build((), merges.merge(self._sealed, quiet=quiet))
                if not build.merged:
                    self._changed_keys = None
                    return None
            self._changed_keys = []
            return build

    def install(self, build: Build, sealed: SealedSegment | None) -> None:
        """Puts a sealed segment in the place of those that it was built from.

        None: nothing of them was live. The manifest is to be recorded after it.
        """
        with self._lock:
            gone = {id(view.segment) for view in build.merged}
            kept = [view for view in self._sealed if id(view.segment) not in gone]
            if sealed is not None:
                # Less what died while the index was being built.
                keys = np.unique(np.array(self._changed_keys or (), np.int64))
                kept.append(SealedView(sealed).without(sealed.rows_of_all(keys)))
            self._changed_keys = None
            self._sealed = kept
            self._full = [full for full in self._full if full not in build.full]
            if build.full:
                self._covered_seq = build.full[-1].covered_seq
            if not self._full and not self._growing.rows:
                self._covered_seq = self.replayed_seq
            self.unrecorded = True
            self._advance(self.view.applied_seq)

    def record(self) -> None:
        """Writes the manifest. Raises OSError: what is served stays as it is, and would be
        built again after a restart."""
        with self._lock:
            sealed, covered_seq = tuple(self._sealed), self._covered_seq
        self.folder.record(sealed, covered_seq)
        self.unrecorded = False

    def _freeze(self, seq: int) -> None:
        self._full.append(FullSegment(self._growing, seq))
        self._growing = GrowingSegment(self.generation.space.dimensions)

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
                live = view.passages_of(change.document_key)
                if _same(live, change):
                    placed.add(index)
                elif len(live):
                    # What died before is not noted again: its passages may be the same as those
                    # that are just being built into another segment.
                    dead.extend(view.segment.rows_of(change.document_key))
                    self._note(change.document_key)
            self._sealed[at] = view.without(np.array(dead, np.int64))
        for index, change in enumerate(moved):
            self._place(change, placed=index in placed)

    def _place(self, change: Change, *, placed: bool) -> None:
        """Puts a document's passages into the growing segment unless they are somewhere."""
        key = change.document_key
        for segment in (self._growing, *(full.segment for full in self._full)):
            if _same(segment.passages_of(key), change):
                placed = True
            elif segment.remove(key):
                self._note(key)
        if not placed and len(change.passage_ids):
            self._growing.add(key, change.passage_ids, change.vectors)

    def _note(self, document_key: int) -> None:
        if self._changed_keys is not None:
            self._changed_keys.append(document_key)

    def _note_all(self, document_keys: NDArray[np.int64]) -> None:
        if self._changed_keys is not None:
            self._changed_keys.extend(document_keys.tolist())

    def _apply_to_columns(self, changes: Sequence[Change]) -> None:
        if self._columns is None and self._arrived is None:
            return
        versions = [
            (change.document_key, None if change.deleted else change.metadata) for change in changes
        ]
        if self._arrived is not None:
            self._arrived.extend(versions)
        if self._columns is not None:
            self._columns = self._columns.with_room(versions)
            self._columns.apply(versions)
            if self._columns.wasteful:
                self._columns = self._columns.compacted()

    def _advance(self, seq: int) -> None:
        """Publishes a view of everything as it is now."""
        growing = [full.segment.view() for full in self._full]
        if self._growing.rows:
            growing.append(self._growing.view())
        columns = self._columns.view() if self._columns else None
        self.view = ShardView((*self._sealed, *growing), seq, columns)
        self.committed_seq = max(self.committed_seq, seq)
        self.replayed_seq = max(self.replayed_seq, seq)
        self.applied.advance(seq)


@contextmanager
def in_use(shards: Sequence[Shard]) -> Iterator[None]:
    """Their files stay inside the block. For the event loop that answers, no other thread."""
    for shard in shards:
        shard.searches += 1
    try:
        yield
    finally:
        for shard in shards:
            shard.searches -= 1


def _same(ids: NDArray[np.int64], change: Change) -> bool:
    return len(ids) > 0 and np.array_equal(ids, change.passage_ids)
