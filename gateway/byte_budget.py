"""A bound on the bytes that a stream holds in memory."""

import asyncio


class ByteBudget:
    """Bytes are taken before something is kept and given back after.

    One item may be larger than the whole budget; it then waits until it is alone.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._given = asyncio.Event()

    async def take(self, size_bytes: int) -> None:
        while self._held_bytes and self._held_bytes + size_bytes > self._limit_bytes:
            self._given.clear()
            await self._given.wait()
        self._held_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._given.set()
