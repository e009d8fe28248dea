"""How far a shard has applied the log, for reads that wait for their writes."""

import asyncio
from contextlib import suppress
from threading import Lock

from sirdar.errors import DeadlineExceeded

_ALL = 2**63 - 1


class AppliedSeq:
    """Advanced by one thread, awaited on event loops."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = Lock()
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def release(self) -> None:
        """Nothing more will be applied here: who waits goes on, now and later, without it."""
        self.advance(_ALL)

    def advance(self, seq: int) -> None:
        with self._lock:
            self.value = max(self.value, seq)
            if not self._waiting:
                return
            ready = [waiter for waiter in self._waiting if waiter[0] <= self.value]
            self._waiting = [waiter for waiter in self._waiting if waiter[0] > self.value]
        for _, loop, future in ready:
            # A loop that was closed meanwhile has nobody left that waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future)

    async def wait(self, seq: int, timeout_seconds: float) -> None:
        """Returns when the sequence is applied. Raises DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = (seq, loop, future)
        with self._lock:
            if self.value >= seq:
                return
            self._waiting.append(waiter)
        try:
            await asyncio.wait_for(future, timeout_seconds)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the shard has applied {self.value} of {seq} writes; allow more time or read "
                "with less consistency",
                reason="NOT_APPLIED_YET",
            ) from None
        finally:
            with self._lock:
                self._waiting = [other for other in self._waiting if other is not waiter]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
