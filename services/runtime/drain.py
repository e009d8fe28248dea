"""How a server that stops tells its streams."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


class Drain:
    """Set once, when the server stops: no new stream items are taken from then on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def draining(self) -> bool:
        return self._event.is_set()

    def begin(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def requests(self, stream: AsyncIterable[T]) -> AsyncIterator[T]:
        """The requests of a stream until its end or until the server drains."""
        iterator = aiter(stream)
        draining = asyncio.ensure_future(self._event.wait())
        coming: asyncio.Future[T] | None = None
        try:
            while not self.draining:
                coming = asyncio.ensure_future(anext(iterator))
                await asyncio.wait((coming, draining), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                try:
                    request = coming.result()
                except StopAsyncIteration:
                    return
                yield request
        finally:
            draining.cancel()
            if coming is not None:
                coming.cancel()
