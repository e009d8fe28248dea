"""Deletes documents whose time is over, and forgets those that were deleted long ago."""

import time
from threading import Event, Thread

import structlog
from prometheus_client import Counter

from services.retriever.store.interface import Store
from sirdar.errors import SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEPT = Counter("sirdar_retriever_expired_documents_total", "Documents deleted as they expired.")
PURGED = Counter(
    "sirdar_retriever_purged_tombstones_total",
    "Rows of deleted documents that were removed for good.",
)

# A transaction of a few milliseconds, so that writes behind it do not wait.
_STEP_DOCUMENTS = 500
_PAUSE_SECONDS = 1.0
_FAULT_PAUSE_SECONDS = 10.0
# An index that reads the log from before what is purged compares with all that is there, 0.3 s
# for 1,000,000 documents, each time that more is.
_PURGE_SECONDS = 60.0


class Sweeper:
    """Looks once a second; the deletions are like any other, so that indexes and replicas see
    them. A full queue or disk is waited for: until then no read answers what is expired.

    Once a minute, or more often where they are kept for less, tombstones are purged.
    """

    def __init__(self, store: Store, *, tombstones_kept_seconds: float) -> None:
        self._store = store
        self._kept_seconds = tombstones_kept_seconds
        self._purge_at = 0.0
        self._closing = Event()
        self._thread = Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = _PAUSE_SECONDS
        while not self._closing.wait(pause):
            try:
                self._sweep()
                self._purge()
                pause = _PAUSE_SECONDS
            except SirdarError as error:
                pause = _FAULT_PAUSE_SECONDS
                log.warning("expired or deleted documents stay for now", error=str(error))
            except Exception:
                # Were the thread to end, what is expired would pile up until a restart.
                pause = _FAULT_PAUSE_SECONDS
                log.exception("expired or deleted documents stay for now")

    def _sweep(self) -> None:
        while not self._closing.is_set() and self._store.has_expired():
            swept = self._store.sweep(_STEP_DOCUMENTS).result()
            SWEPT.inc(swept)
            if swept < _STEP_DOCUMENTS:
                return

    def _purge(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        purged = _STEP_DOCUMENTS
        while not self._closing.is_set() and purged == _STEP_DOCUMENTS:
            purged = self._store.purge_tombstones(self._kept_seconds, _STEP_DOCUMENTS).result()
            PURGED.inc(purged)
        self._purge_at = time.monotonic() + min(_PURGE_SECONDS, self._kept_seconds)
