"""How a server that stops tells its streams."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, TypeVar

T = TypeVar("T")


class Drain:
    """Set once, when the server stops: no new stream items are taken from then on.

    Before that callers have time to notice: from `leaving` on nobody else should come.
    """

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self._event = asyncio.Event()
        # Tasks that wait for the next request of their stream.
        self._waiting: set[asyncio.Task[Any]] = set()

    @property
    def draining(self) -> bool:
        return self._event.is_set()

    def begin(self) -> None:
        self.leaving.set()
        self._event.set()
        for task in self._waiting:
            task.cancel()

    async def wait(self) -> None:
        await self._event.wait()

    async def requests(self, stream: AsyncIterable[T]) -> AsyncIterator[T]:
        """The requests of a stream until its end or until the server drains."""
        iterator = aiter(stream)
        while not self.draining:
            task = asyncio.current_task()
            assert task is not None, "streams are served by tasks"
            self._waiting.add(task)
            try:
                request = await anext(iterator)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                # By the drain, unless it is by somebody else as well.
                if not self.draining or task.uncancel():
                    raise
                return
            finally:
                self._waiting.discard(task)
            yield request
