"""One thing at a time, in a thread that nobody has to wait for."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, TypeVar

from sirdar.errors import Unavailable

T = TypeVar("T")


class Turns:
    """Not an executor, whose threads the interpreter joins before it ends: a location of
    snapshots that never answers would keep the process for ever."""

    def __init__(self, name: str) -> None:
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._under_way: Future[Any] | None = None
        self._changed = Condition()
        self._closing = False
        self._name = name
        self._thread: Thread | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Raises Unavailable once it is closed."""
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise Unavailable("the retriever is closing; retry on another replica")
            self._calls.append((call, future))
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def close(self, patience_seconds: float) -> None:
        """Lets everything that waits have its turn for so long; what is left fails with
        Unavailable, and the thread is left to whatever it waits for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is None:
            return
        self._thread.join(patience_seconds)
        with self._changed:
            left = [future for _, future in self._calls]
            self._calls.clear()
            if self._under_way is not None:
                left.append(self._under_way)
        for future in left:
            with suppress(InvalidStateError):
                future.set_exception(
                    Unavailable("the retriever is closing; retry on another replica")
                )

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            call, future = turn
            if not future.set_running_or_notify_cancel():
                continue
            # Where it took too long it has failed already.
            try:
                value = call()
            except BaseException as error:  # noqa: BLE001 - raised again to whoever waits
                with suppress(InvalidStateError):
                    future.set_exception(error)
            else:
                with suppress(InvalidStateError):
                    future.set_result(value)

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._changed:
            self._under_way = None
            self._changed.wait_for(lambda: bool(self._calls) or self._closing)
            if not self._calls:
                return None
            turn = self._calls.popleft()
            self._under_way = turn[1]
            return turn
