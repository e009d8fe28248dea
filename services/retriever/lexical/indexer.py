"""The thread that keeps the lexical indexes up to the store: it never holds up a write."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Condition, Thread

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.retriever.lexical.index import LexicalIndex
from services.retriever.lexical.readers import OpenReaders
from services.retriever.lexical.shard import LexicalShard
from services.retriever.store.interface import Store
from services.retriever.store.records import Change, Generation
from services.retriever.store.tombstones import TombstonesPurged
from services.retriever.trim import trim_heap
from sirdar.errors import DataLoss, SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PENDING = Gauge(
    "sirdar_retriever_lexical_pending_writes",
    "Committed writes that lexical searches do not see yet.",
)
INDEX_BYTES = Gauge("sirdar_retriever_lexical_index_bytes", "Lexical indexes on disk.")
OPEN_WRITERS = Gauge("sirdar_retriever_lexical_open_writers", "Lexical indexes being written to.")
COMMIT_SECONDS = Histogram(
    "sirdar_retriever_lexical_commit_seconds",
    "One commit of one lexical index, its fsyncs included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FAILURES = Counter(
    "sirdar_retriever_lexical_failures_total", "Lexical writes that failed and are tried again."
)
REBUILDS = Counter(
    "sirdar_retriever_lexical_rebuilds_total", "Damaged lexical indexes that were built again."
)

# A step of one shard: about 50 ms.
_STEP_CHANGES = 500
_IDLE_SECONDS = 5.0
# Merges end by themselves; after a crash what nobody vouched for is built again.
_VOUCH_SECONDS = 0.25
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
_NEVER = float("inf")


class Indexer:
    """Shards with something to do take turns; writers are opened for them and closed again
    when idle, `max_writers` at a time: each holds six threads and some megabytes."""

    def __init__(self, *, max_writers: int, max_readers: int, max_waiting_bytes: int) -> None:
        self.readers = OpenReaders(max_readers)
        self._max_writers = max_writers
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._store: Store | None = None
        self._shards: set[LexicalShard] = set()
        # Those with something to do, in their order.
        self._active: OrderedDict[LexicalShard, None] = OrderedDict()
        # Those with an open writer and when it was last used; the least recently used first.
        self._writers: OrderedDict[LexicalShard, float] = OrderedDict()
        self._vouched_at = 0.0
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="lexical", daemon=True)
        PENDING.set_function(lambda: sum(shard.pending for shard in list(self._shards)))
        INDEX_BYTES.set_function(lambda: sum(shard.size_bytes for shard in list(self._shards)))
        OPEN_WRITERS.set_function(lambda: len(self._writers))

    def start(self, store: Store) -> None:
        self._store = store
        self._thread.start()

    def close(self) -> None:
        """Commits what was written; what was not comes from the store after the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def open(
        self, path: Path, generation: Generation, number: int, language: str, committed_seq: int
    ) -> LexicalShard:
        """The words of a shard; what is behind the store catches up in the background."""
        index = LexicalIndex(path, generation.key, number, language)
        shard = LexicalShard(index, generation, number)
        shard.restore(committed_seq)
        with self._changed:
            self._shards.add(shard)
            if not shard.idle:
                self._wake(shard)
        return shard

    def forget(self, shards: Iterable[LexicalShard]) -> None:
        """Their collection was deleted; nothing touches their files after this."""
        for shard in shards:
            shard.dropped = True
            with shard.writing:
                shard.index.close_writer(merge=False)
            freed = shard.overflow()
            with self._changed:
                self._waiting_bytes -= freed
                self._shards.discard(shard)
                self._active.pop(shard, None)
                self._writers.pop(shard, None)
            self.readers.drop(shard.index)
            shard.visible.release()

    def feed(self, shard: LexicalShard, changes: Sequence[Change]) -> None:
        """Takes committed changes of a shard. Only queues them."""
        grown = shard.feed(changes)
        with self._changed:
            self._waiting_bytes += grown
            if self._waiting_bytes > self._max_waiting_bytes:
                self._waiting_bytes -= shard.overflow()
            self._wake(shard)

    def follow(self, shard: LexicalShard, committed_seq: int) -> None:
        """Another process has committed writes of a shard up to here."""
        freed = shard.follow(committed_seq)
        with self._changed:
            self._waiting_bytes -= freed
            self._wake(shard)

    def demand(self, shard: LexicalShard, seq: int) -> None:
        """Lets searches see the writes up to `seq` as soon as it can be."""
        if shard.demand(seq):
            with self._changed:
                self._wake(shard)

    def damaged(self, shard: LexicalShard) -> None:
        """A search found that the index cannot be read: it is built again."""
        with shard.writing:
            # Two searches may find it; a fresh one is not damaged.
            if shard.dropped or shard.index.is_whole():
                return
            self._rebuild(shard)
        with self._changed:
            self._wake(shard)

    def _wake(self, shard: LexicalShard) -> None:
        if not shard.dropped:
            self._active.setdefault(shard)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._rest()
                if self._closing:
                    break
                shards = list(self._active)
            for shard in shards:
                with shard.writing:
                    if not shard.dropped and shard.due_at <= time.monotonic():
                        self._try(shard, self._step)
            self._close_idle()
            self._vouch()
        for shard in list(self._writers):
            with shard.writing:
                if shard.uncommitted:
                    self._try(shard, self._commit)
                shard.index.close_writer(merge=False)
                self._try(shard, lambda shard: shard.index.vouch())

    def _rest(self) -> None:
        """Until there is something to do. Called with `_changed`."""
        while not self._closing:
            for shard in [shard for shard in self._active if shard.due_at == _NEVER]:
                del self._active[shard]
            due = [shard.due_at for shard in self._active]
            if self._writers:
                due.append(next(iter(self._writers.values())) + _IDLE_SECONDS)
                due.append(self._vouched_at + _VOUCH_SECONDS)
            seconds = min(due, default=_NEVER) - time.monotonic()
            if seconds <= 0:
                return
            self._changed.wait(None if seconds == _NEVER else seconds)

    def _step(self, shard: LexicalShard) -> None:
        """Writes some changes, and commits when it is due."""
        assert self._store is not None
        if shard.suspect:
            # Only now: until the retry searches have gone on with the last commit.
            self._rebuild(shard)
        try:
            taken = shard.take(self._store, _STEP_CHANGES)
        except TombstonesPurged as error:
            self._miss_no_deletion(shard, error)
            return
        with self._changed:
            self._waiting_bytes -= taken.freed_bytes
        if any(not change.kept for change in taken.changes):
            self._use_writer(shard)
        shard.write(taken)
        if shard.commit_at <= time.monotonic():
            self._commit(shard)
        else:
            shard.show()

    def _miss_no_deletion(self, shard: LexicalShard, error: TombstonesPurged) -> None:
        """The log may be read on from where the shard is: it has nothing that is gone."""
        assert self._store is not None
        log.info(
            "deletions are looked for",
            lexical=True,
            generation=shard.generation.key,
            shard=shard.number,
            why=error.message,
        )
        if shard.uncommitted:
            self._commit(shard)
        there = self._store.document_keys(shard.generation, shard.number)
        gone = shard.gone(there)
        if len(gone):
            self._use_writer(shard)
            shard.remove(gone)
            self._commit(shard)
        shard.purged_seq = there.purged_seq

    def _commit(self, shard: LexicalShard) -> None:
        with COMMIT_SECONDS.time():
            shard.commit()
        self.readers.refresh(shard.index)
        shard.show()

    def _use_writer(self, shard: LexicalShard) -> None:
        """Opens a writer where there is none, closing the one that was idle for longest."""
        if not shard.index.has_writer:
            while len(self._writers) >= self._max_writers:
                self._close_writer(next(iter(self._writers)))
            shard.index.open_writer()
        with self._changed:
            self._writers[shard] = time.monotonic()
            self._writers.move_to_end(shard)

    def _vouch(self) -> None:
        """For what merges have made of the indexes that are written to."""
        for shard in list(self._writers):
            with shard.writing:
                if shard.index.has_writer and shard.retry_at <= time.monotonic():
                    self._try(shard, lambda shard: shard.index.vouch())
        self._vouched_at = time.monotonic()

    def _close_idle(self) -> None:
        now = time.monotonic()
        closed = False
        for shard, used in list(self._writers.items()):
            if now - used >= _IDLE_SECONDS:
                self._close_writer(shard)
                closed = True
        if closed and not self._writers:
            trim_heap()

    def _close_writer(self, shard: LexicalShard) -> None:
        def close(shard: LexicalShard) -> None:
            if shard.uncommitted:
                self._commit(shard)
            shard.index.close_writer(merge=True)
            shard.index.vouch()

        # Not under its lock: a shard that makes room for another is idle, and both wait for
        # none but this thread and those that forget them.
        with self._changed:
            self._writers.pop(shard, None)
        with shard.writing:
            if not shard.dropped:
                self._try(shard, close)

    def _try(self, shard: LexicalShard, work: Callable[[LexicalShard], None]) -> None:
        """Whatever goes wrong (a full disk, a damaged file), searches go on with the last
        commit, and what is missing is written again for as long as it takes; all of it after a
        commit that failed. Called with `writing`."""
        try:
            work(shard)
        except Exception as error:
            FAILURES.inc()
            shard.retry_seconds = min(
                max(_FIRST_RETRY_SECONDS, 2 * shard.retry_seconds), _LAST_RETRY_SECONDS
            )
            shard.retry_at = time.monotonic() + shard.retry_seconds
            log.error(
                "writing words failed",
                folder=str(shard.index.path),
                error=repr(error),
                retry_seconds=shard.retry_seconds,
                exc_info=not isinstance(error, (OSError, ValueError, SirdarError)),
            )
            shard.again()
            if isinstance(error, DataLoss) or not shard.index.is_whole():
                self._rebuild(shard)
            # It may have been at rest.
            with self._changed:
                self._wake(shard)

    def _rebuild(self, shard: LexicalShard) -> None:
        REBUILDS.inc()
        log.warning("a lexical index is built again", folder=str(shard.index.path))
        self.readers.drop(shard.index)
        shard.rebuild()
