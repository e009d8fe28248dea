"""Turns full growing segments into sealed ones, one at a time, in child processes."""

import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from threading import Condition, Thread

import numpy as np
import structlog
from prometheus_client import Counter, Histogram

from services.retriever.build import BuiltIndex
from services.retriever.sealed import SealedSegment
from services.retriever.segment import Rows
from services.retriever.shard import Build, Shard

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEAL_SECONDS = Histogram(
    "sirdar_retriever_seal_seconds",
    "From a full growing segment to its sealed one being searched.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
SEAL_FAILURES = Counter(
    "sirdar_retriever_seal_failures_total", "Builds that failed and are tried again."
)

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
_POLL_SECONDS = 0.05


class BuildFailed(Exception):
    """A build did not give a segment; it is tried again."""


class Sealer:
    """A thread that waits for builds. Searches and writes never wait for it: until its
    sealed segment is there a full one is searched as it is."""

    def __init__(self, *, build_threads: int) -> None:
        self._build_threads = build_threads
        self._shards: deque[Shard] = deque()
        self._changed = Condition()
        self._closing = False
        self._busy = False
        self._built = 0
        self._thread = Thread(target=self._run, name="sealer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self, shard: Shard) -> None:
        """The shard has a full segment more."""
        with self._changed:
            self._shards.append(shard)
            self._changed.notify_all()

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Until all that is full is sealed; False when the time was up."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._shards and not self._busy, timeout_seconds
            )

    def close(self) -> None:
        """Ends a build in progress: it starts again after the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        retry_seconds = _FIRST_RETRY_SECONDS
        while (shard := self._next()) is not None:
            build = None if shard.dropped else shard.next_build()
            try:
                if build is not None:
                    with SEAL_SECONDS.time():
                        self._seal(shard, build)
                retry_seconds = _FIRST_RETRY_SECONDS
            except Exception as error:
                # Whatever it was (a full disk, a killed child, no memory), what is not sealed
                # is still served: it is tried again for as long as it takes.
                if not self._closing and not shard.dropped:
                    SEAL_FAILURES.inc()
                    known = isinstance(error, (OSError, BuildFailed))
                    log.error(
                        "sealing failed",
                        error=repr(error),
                        retry_seconds=retry_seconds,
                        exc_info=not known,
                    )
                    self._again(shard, retry_seconds)
                    retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _next(self) -> Shard | None:
        """The next shard with a full segment; None: closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._shards or self._closing)
            if self._closing:
                return None
            self._busy = True
            return self._shards.popleft()

    def _again(self, shard: Shard, delay_seconds: float) -> None:
        with self._changed:
            self._shards.append(shard)
            self._changed.wait_for(lambda: self._closing, delay_seconds)

    def _seal(self, shard: Shard, build: Build) -> None:
        rows = build.rows()
        if len(rows.ids) == 0:
            shard.install(build, None)
            return
        self._built += 1
        name = f"{build.full[-1].covered_seq:016d}-{time.time_ns():016x}-{self._built}"
        folder = shard.folder.build_folder(name)
        try:
            sealed = self._build(shard, rows, folder, name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        shard.install(build, sealed)

    def _build(self, shard: Shard, rows: Rows, folder: Path, name: str) -> SealedSegment:
        np.save(folder / "vectors.npy", rows.vectors)
        np.save(folder / "rows.npy", np.stack([rows.ids, rows.document_keys]))
        output = self._run_child(folder, shard.generation.index_kind)
        return shard.folder.adopt(folder, name, BuiltIndex.model_validate_json(output))

    def _run_child(self, folder: Path, index_kind: str) -> bytes:
        command = [
            *(sys.executable, "-m", "services.retriever.build"),
            *("--vectors", str(folder / "vectors.npy"), "--index", str(folder / "index.faiss")),
            *("--index-kind", index_kind, "--threads", str(self._build_threads)),
        ]
        with (folder / "errors").open("w+") as errors:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
            try:
                while child.poll() is None:
                    if self._closing:
                        raise BuildFailed("closing")
                    time.sleep(_POLL_SECONDS)
            finally:
                child.kill()
                output, _ = child.communicate()
            if child.returncode != 0:
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                raise BuildFailed(lines[-1] if lines else f"exit status {child.returncode}")
        return output
