"""The thread that follows the store of another process."""

import time
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Lock, Thread

import structlog
from prometheus_client import Counter

from services.retriever.replica.replay import Replay
from sirdar.errors import SirdarError, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FAILURES = Counter(
    "sirdar_retriever_replica_failures_total",
    "Times that the followed store could not be read, or an index not be opened.",
)

# A look takes some microseconds while nothing is committed.
_POLL_SECONDS = 0.02
_FAULT_PAUSE_SECONDS = 0.5
_CATCH_UP_SECONDS = 0.1


class Follower:
    """Looks whether something was committed, at an interval or when it is asked to, and shows it.

    What may be known late by reads that do not ask for more is known at once by
    those that wait for `refreshed`. `nudged`: set by who knows that something was.
    """

    def __init__(self, replay: Replay, nudged: Event | None = None) -> None:
        self._replay = replay
        self._nudged = nudged or Event()
        self._lock = Lock()
        self._waiting: list[Future[None]] = []
        self._complete: Future[None] = Future()
        self._closing = False
        self._thread = Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closing = True
        self._nudged.set()
        if self._thread.is_alive():
            self._thread.join()
        self._replay.close()

    def catch_up(self) -> None:
        """A search found what the store no longer has: waits a little for what took its place."""
        with suppress(SirdarError, TimeoutError):
            self.refreshed().result(_CATCH_UP_SECONDS)

    def refreshed(self) -> Future[None]:
        """Done when all collections are known that were there before the call, and how far their
        writes were committed. Fails with Unavailable and with what the store raises."""
        future: Future[None] = Future()
        with self._lock:
            if self._closing:
                raise Unavailable("the retriever is closing; retry on another replica")
            self._waiting.append(future)
        self._nudged.set()
        return future

    def complete(self) -> Future[None]:
        """Done when all that was committed is shown for the first time."""
        return self._complete

    def _run(self) -> None:
        while True:
            self._nudged.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
                closing = self._closing
            if closing:
                _fail(waiting, Unavailable("the retriever is closing; retry on another replica"))
                return
            self._nudged_wait(self._look(waiting))

    def _nudged_wait(self, pause_seconds: float) -> None:
        if pause_seconds:
            self._nudged.wait(pause_seconds)

    def _look(self, waiting: list[Future[None]]) -> float:
        """Follows the store a step; answers how long to rest."""
        try:
            moved = self._replay.step(certain=bool(waiting))
        except Exception as error:
            # Whatever it was (a disk, a damaged file), what is open goes on to be searched, and
            # without this thread there would be no more writes, and nobody told.
            FAILURES.inc()
            known = isinstance(error, SirdarError)
            log.error("the store cannot be followed", error=str(error), exc_info=not known)
            reason = error if known else Unavailable(f"the store cannot be followed: {error!r}")
            _fail(waiting, reason)
            time.sleep(_FAULT_PAUSE_SECONDS)
            return 0.0
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        if not self._complete.done() and self._replay.caught_up():
            self._complete.set_result(None)
        return 0.0 if moved and self._replay.behind else _POLL_SECONDS


def _fail(waiting: list[Future[None]], error: BaseException) -> None:
    for future in waiting:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
