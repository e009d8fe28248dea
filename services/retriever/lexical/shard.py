"""The words of one shard: its index, and the writes that are not in it yet."""

import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.retriever.applied import AppliedSeq
from services.retriever.lexical.index import LexicalIndex
from services.retriever.store.interface import Store
from services.retriever.store.records import Change, Generation, TextChange
from services.retriever.store.tombstones import DocumentKeys

# An index whose documents are only deleted or kept has no commits to record its sequence with.
_RECORD_EVERY = 1000
# After a pause a write is shown at once; in a stream of writes a commit waits for more, as it
# takes 20 to 50 ms however little it holds.
_FIRST_DELAY_SECONDS = 0.05
_PAUSE_SECONDS = 2.0
_DELAY_SECONDS = 0.6
_MAX_DELAY_SECONDS = 3.0
_COMMITS_SHARE = 5
# Until it has caught up nobody sees a commit; they are for a restart only.
_CATCH_UP_DELAY_SECONDS = 10.0


class Taken(NamedTuple):
    """Changes to be written; with them everything up to `reaches_seq` is. Not `whole`: but for
    documents that were written again meanwhile, which come later. `freed_bytes`: of memory that
    they leave."""

    changes: Sequence[TextChange]
    reaches_seq: int
    freed_bytes: int
    whole: bool = True


class LexicalShard:
    """`feed` is called by the store's writing thread, `take` to `commit` by the indexer's,
    the rest by any.

    Writes wait in memory; where they become too many they are forgotten, and
    read from the store again.
    """

    def __init__(self, index: LexicalIndex, generation: Generation, number: int) -> None:
        self.index = index
        self.generation = generation
        self.number = number
        # The last write that searches see, but for documents that are written again; the last
        # up to which they see all; the last that the store has.
        self.visible_seq = 0
        self.visible = AppliedSeq()
        self.committed_seq = 0
        self.dropped = False
        # No deletion up to here was missed, although its tombstone may be gone.
        self.purged_seq = 0
        # Held while the index is written to.
        self.writing = Lock()
        self.size_bytes = 0
        # When it is tried again after a failure, on time.monotonic().
        self.retry_at = 0.0
        self.retry_seconds = 0.0
        # A commit failed: tantivy may have lost deletions or documents of what it keeps.
        self.suspect = False
        self._lock = Lock()
        self._waiting: deque[TextChange] = deque()
        self._waiting_bytes = 0
        self._from_store = False
        self._demanded_seq = 0
        self._written_seq = 0
        self._whole_seq = 0
        self._recorded_seq = 0
        # Searched from this write on.
        self._ready_at = 0
        self._first_uncommitted_at: float | None = None
        self._committed_at = 0.0
        self._commit_seconds = 0.0

    def restore(self, committed_seq: int) -> None:
        """Starts from what is on disk; the log beyond it is read from the store."""
        covered = self.index.covered_seq(committed_seq)
        self._start(covered, committed_seq)
        self.size_bytes = self.index.size_bytes() if covered else 0

    def rebuild(self) -> None:
        """Starts from nothing. Called with `writing`."""
        self.suspect = False
        self.index.remove()
        before, self.visible, self.visible_seq = self.visible, AppliedSeq(), 0
        self._start(0, self.committed_seq)
        # Who waits goes on, and finds that the shard is not ready.
        before.release()

    def again(self) -> None:
        """What was written since the last commit is lost and comes from the store again.
        Called with `writing`."""
        self.index.close_writer(merge=False)
        self._first_uncommitted_at = None
        with self._lock:
            self._written_seq, self._whole_seq = self.visible_seq, self.visible.value
            self.purged_seq = 0
            self._forget()

    @property
    def ready(self) -> bool:
        """Whether it has caught up with what was there when it was opened."""
        return self.visible_seq >= self._ready_at

    def show_at_once(self) -> None:
        """Is searched from now on, whatever of the store it does not have yet."""
        self._ready_at = 0

    @property
    def behind(self) -> int:
        """Writes since it was opened that searches do not see."""
        return max(0, self.committed_seq - max(self.visible_seq, self._ready_at))

    @property
    def pending(self) -> int:
        return max(0, self.committed_seq - self.visible_seq)

    def feed(self, changes: Sequence[Change]) -> int:
        """Takes committed changes, in the order of their sequences; answers how many bytes
        more wait now."""
        with self._lock:
            self.committed_seq = max(self.committed_seq, changes[-1].position.seq)
            if self._from_store:
                return 0
            before = self._waiting_bytes
            for change in changes:
                item = _words_of(change)
                self._waiting.append(item)
                self._waiting_bytes += item.size_bytes
            return self._waiting_bytes - before

    def follow(self, committed_seq: int) -> int:
        """Another process has committed up to here: it is read from the store. Answers how many
        bytes no longer wait."""
        with self._lock:
            self.committed_seq = max(self.committed_seq, committed_seq)
            return self._forget()

    def overflow(self) -> int:
        """Forgets what waits; answers how many bytes that were."""
        with self._lock:
            return self._forget()

    def demand(self, seq: int) -> bool:
        """Somebody waits until searches see this write; answers whether they do not yet."""
        with self._lock:
            self._demanded_seq = max(self._demanded_seq, seq)
        return self.visible.value < seq

    def take(self, store: Store, limit: int) -> Taken:
        """The next changes; `write` comes next. Raises TombstonesPurged."""
        with self._lock:
            if not self._from_store:
                return self._take_waiting(limit)
            target, after = self.committed_seq, self._written_seq
        texts = store.texts(self.generation, self.number, after, self.purged_seq)
        changes = list(islice(texts, limit))
        if len(changes) == limit:
            return Taken(changes, changes[-1].seq, 0, whole=False)
        with self._lock:
            self._from_store = self.committed_seq > target
        # The store had all up to `target`, and shows each document once, in its last place.
        return Taken(changes, target, 0)

    def gone(self, there: DocumentKeys) -> NDArray[np.int64]:
        """The keys of documents that the index has, and that are not there any more. Called with
        nothing uncommitted."""
        keys = self.index.document_keys()
        found: NDArray[np.int64] = keys[there.lack(keys)]
        return found

    def remove(self, document_keys: NDArray[np.int64]) -> None:
        """Takes documents out through the open writer. Called with `writing`."""
        self.index.delete(document_keys)
        self._first_uncommitted_at = time.monotonic()

    def write(self, taken: Taken) -> None:
        """Gives changes to the open writer; those that it has are left out: the store may show
        a change before it is fed. Called with `writing`."""
        changes = [change for change in taken.changes if change.seq > self._written_seq]
        moved = [change for change in changes if not change.kept]
        if moved:
            self.index.add(moved)
            if self._first_uncommitted_at is None:
                self._first_uncommitted_at = time.monotonic()
        with self._lock:
            last = changes[-1].seq if changes else 0
            self._written_seq = max(self._written_seq, taken.reaches_seq, last)
            if taken.whole:
                self._whole_seq = self._written_seq

    @property
    def uncommitted(self) -> bool:
        return self._first_uncommitted_at is not None

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is to be committed."""
        with self._lock:
            return not (self._waiting or self._from_store or self.uncommitted)

    @property
    def due_at(self) -> float:
        """When there is something to do, on time.monotonic(); inf: nothing."""
        with self._lock:
            if self._waiting or self._from_store:
                return self.retry_at
        return max(self.commit_at, self.retry_at)

    @property
    def commit_at(self) -> float:
        """When what is uncommitted is to be committed, on time.monotonic()."""
        if self._first_uncommitted_at is None:
            return float("inf")
        if self.visible.value < self._demanded_seq <= self._whole_seq:
            return 0.0
        if not self.ready and self._from_store:
            return self._first_uncommitted_at + _CATCH_UP_DELAY_SECONDS
        if self._first_uncommitted_at - self._committed_at > _PAUSE_SECONDS:
            return self._first_uncommitted_at + _FIRST_DELAY_SECONDS
        delay = max(_DELAY_SECONDS, _COMMITS_SHARE * self._commit_seconds)
        return self._first_uncommitted_at + min(delay, _MAX_DELAY_SECONDS)

    def commit(self) -> None:
        """Makes what was written durable; `show` comes next. Called with `writing`."""
        started = time.monotonic()
        try:
            self.index.commit()
        except BaseException:
            self.suspect = True
            raise
        self._first_uncommitted_at = None
        self.index.record(self._written_seq)
        self._recorded_seq = self._written_seq
        self.size_bytes = self.index.size_bytes()
        self._committed_at = time.monotonic()
        self._commit_seconds = self._committed_at - started
        self.retry_seconds = 0.0

    def show(self) -> None:
        """Searches see all that was written: it is committed and readers know of it."""
        if self.uncommitted:
            return
        if self._written_seq - self._recorded_seq >= _RECORD_EVERY and self.index.exists:
            self.index.record(self._written_seq)
            self._recorded_seq = self._written_seq
        self.visible_seq = self._written_seq
        self.visible.advance(self._whole_seq)

    def _start(self, covered_seq: int, committed_seq: int) -> None:
        self._first_uncommitted_at = None
        with self._lock:
            self._forget()
            self.committed_seq = max(self.committed_seq, committed_seq)
            self._written_seq = self._whole_seq = self._recorded_seq = covered_seq
            self.purged_seq = 0
            self.visible_seq = covered_seq
            self._ready_at = self.committed_seq
            self._from_store = covered_seq < self.committed_seq
        self.visible.advance(covered_seq)

    def _forget(self) -> int:
        freed = self._waiting_bytes
        self._waiting.clear()
        self._waiting_bytes = 0
        self._from_store = True
        return freed

    def _take_waiting(self, limit: int) -> Taken:
        changes = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        freed = sum(item.size_bytes for item in changes)
        self._waiting_bytes -= freed
        return Taken(changes, changes[-1].seq if changes else 0, freed)


def _words_of(change: Change) -> TextChange:
    return TextChange(
        change.position.seq,
        change.document_key,
        tuple(change.passage_ids.tolist()),
        change.title,
        change.text,
        change.spans,
        change.kept,
    )
