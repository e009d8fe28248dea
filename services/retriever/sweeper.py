"""Deletes documents whose time is over."""

from threading import Event, Thread

import structlog
from prometheus_client import Counter

from services.retriever.store.interface import Store
from sirdar.errors import SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEPT = Counter("sirdar_retriever_expired_documents_total", "Documents deleted as they expired.")

# A transaction of a few milliseconds, so that writes behind it do not wait.
_STEP_DOCUMENTS = 500
_PAUSE_SECONDS = 1.0
_FAULT_PAUSE_SECONDS = 10.0


class Sweeper:
    """Looks once a second; the deletions are like any other, so that indexes and replicas see
    them. A full queue or disk is waited for: until then no read answers what is expired."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
                pause = _PAUSE_SECONDS
            except SirdarError as error:
                pause = _FAULT_PAUSE_SECONDS
                log.warning("expired documents were not deleted", error=str(error))
            except Exception:
                # Were the thread to end, what is expired would pile up until a restart.
                pause = _FAULT_PAUSE_SECONDS
                log.exception("expired documents were not deleted")

    def _sweep(self) -> None:
        while not self._closing.is_set() and self._store.has_expired():
            swept = self._store.sweep(_STEP_DOCUMENTS).result()
            SWEPT.inc(swept)
            if swept < _STEP_DOCUMENTS:
                return
