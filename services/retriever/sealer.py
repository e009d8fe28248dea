"""Turns full growing segments into sealed ones and merges these, one build at a time."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread

import structlog
from prometheus_client import Counter, Histogram
from pydantic import TypeAdapter

from services.retriever.build_child import BuildFailed, run_child
from services.retriever.built import BuiltIndex
from services.retriever.sealed_segment import SealedSegment
from services.retriever.segment_build import Build
from services.retriever.shard import Shard
from services.retriever.trim import trim_heap

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEAL_SECONDS = Histogram(
    "sirdar_retriever_seal_seconds",
    "From a full growing segment, or segments to merge, to a sealed one being searched.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
SEAL_FAILURES = Counter(
    "sirdar_retriever_seal_failures_total", "Builds that failed and are tried again."
)
BUILDS = Counter(
    "sirdar_retriever_segment_builds_total", "Sealed segments built.", ("kind", "cause")
)
BUILT_ROWS = Counter("sirdar_retriever_built_rows_total", "Vectors written into sealed segments.")
RECLAIMED_ROWS = Counter(
    "sirdar_retriever_reclaimed_rows_total", "Vectors of deleted passages that merges dropped."
)
FALLBACKS = Counter(
    "sirdar_retriever_index_fallbacks_total",
    "Segments whose index is not of the kind that the collection asks for.",
)

_BUILT = TypeAdapter(BuiltIndex)

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0


class Sealer:
    """A thread that builds. Searches and writes never wait for it: until its sealed segment is
    there a full one is searched as it is. A shard whose build fails waits alone."""

    def __init__(self, *, build_threads: int, quiet_seconds: float = 5.0) -> None:
        """A shard that has not changed for `quiet_seconds` is tidied up."""
        self._build_threads = build_threads
        self._quiet_seconds = quiet_seconds
        # When to look at a shard, and how long the next retry of one that failed waits.
        self._due: dict[Shard, float] = {}
        self._failed: dict[Shard, tuple[float, float]] = {}
        self._changed = Condition()
        self._closing = False
        self._busy: Shard | None = None
        self._built = 0
        self._thread = Thread(target=self._run, name="sealer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self, shard: Shard) -> None:
        """The shard has changed."""
        delay = None if shard.dropped else shard.build_in_seconds(self._quiet_seconds)
        if delay is None:
            return
        with self._changed:
            not_before, _ = self._failed.get(shard, (0.0, 0.0))
            due = max(time.monotonic() + delay, not_before)
            if shard not in self._due or due < self._due[shard]:
                self._due[shard] = due
                self._changed.notify_all()

    def forget(self, shards: Sequence[Shard]) -> None:
        """Their collection was deleted: a build of one is ended, and nothing touches their files
        after this."""
        for shard in shards:
            shard.dropped = True
        with self._changed:
            for shard in shards:
                self._due.pop(shard, None)
                self._failed.pop(shard, None)
            self._changed.wait_for(lambda: self._busy not in shards)

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Until nothing is left to build; False when the time was up."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._due and self._busy is None, timeout_seconds
            )

    def is_building(self, shard: Shard) -> bool:
        return self._busy is shard

    def backlog(self) -> int:
        """Shards that wait for a build."""
        with self._changed:
            return len(self._due)

    def close(self) -> None:
        """Ends a build in progress: it starts again after the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (shard := self._next()) is not None:
            try:
                self._work(shard)
                self._failed.pop(shard, None)
            except Exception as error:  # noqa: BLE001 - logged and tried again
                # Whatever it was (a full disk, a killed child, no memory), what is not sealed
                # is still served: it is tried again for as long as it takes.
                self._retry(shard, error)
            # Due again before it is no longer busy: else nothing would seem left to do.
            self.notify(shard)
            if not self.backlog():
                # After 200,000 vectors of 384 dimensions came in, that is 80 MB.
                trim_heap()
            with self._changed:
                self._busy = None
                self._changed.notify_all()

    def _next(self) -> Shard | None:
        """The next shard that is due, those with full segments first; None: closing."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                due = [shard for shard, at in self._due.items() if at <= now]
                if due:
                    self._busy = max(due, key=lambda shard: shard.full_segments)
                    del self._due[self._busy]
                    return self._busy
                first = min(self._due.values(), default=None)
                self._changed.wait(None if first is None else first - now)
            return None

    def _retry(self, shard: Shard, error: Exception) -> None:
        if self._closing or shard.dropped:
            return
        SEAL_FAILURES.inc()
        _, delay = self._failed.get(shard, (0.0, _FIRST_RETRY_SECONDS))
        log.error(
            "sealing failed",
            shard=shard.number,
            generation=shard.generation.key,
            error=repr(error),
            retry_seconds=delay,
            exc_info=not isinstance(error, (OSError, BuildFailed)),
        )
        with self._changed:
            longer = min(2 * delay, _LAST_RETRY_SECONDS)
            self._failed[shard] = time.monotonic() + delay, longer
            self._due.pop(shard, None)

    def _work(self, shard: Shard) -> None:
        if shard.dropped:
            return
        if shard.unrecorded:
            shard.record()
        build = shard.next_build(self._quiet_seconds)
        if build is not None:
            with SEAL_SECONDS.time():
                self._seal(shard, build)

    def _seal(self, shard: Shard, build: Build) -> None:
        self._built += 1
        name = f"{shard.view.applied_seq:016d}-{time.time_ns():016x}-{self._built}"
        folder = shard.folder.build_folder(name)
        sealed: SealedSegment | None = None
        try:
            rows = build.write(folder, shard.generation.space.dimensions)
            if rows:
                sealed = self._build(shard, folder, name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        shard.install(build, sealed)
        shard.record()
        if sealed is not None:
            BUILDS.labels(sealed.kind, "full" if build.full else "merge").inc()
            BUILT_ROWS.inc(rows)
        RECLAIMED_ROWS.inc(build.rows - rows)

    def _build(self, shard: Shard, folder: Path, name: str) -> SealedSegment:
        output = self._run_child(shard, folder)
        sealed = shard.folder.adopt(folder, name, _BUILT.validate_json(output))
        if sealed.note:
            FALLBACKS.inc()
            log.warning("an index of another kind was built", note=sealed.note)
        sealed.touch()
        return sealed

    def _run_child(self, shard: Shard, folder: Path) -> bytes:
        return run_child(
            "services.retriever.build",
            *("--folder", str(folder), "--index-kind", shard.generation.index_kind),
            *("--threads", str(self._build_threads)),
            errors=folder / "errors",
            stopped=lambda: self._closing or shard.dropped,
        )
