"""The requests of a stream, while the server runs and when it stops."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.runtime.drain import Drain


async def numbers(given: "asyncio.Queue[int | None]") -> AsyncIterator[int]:
    while (number := await given.get()) is not None:
        yield number


class Reader:
    """Reads a stream in a task."""

    def __init__(self) -> None:
        self.drain = Drain()
        self.given: asyncio.Queue[int | None] = asyncio.Queue()
        self.seen: list[int] = []
        self.first = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> str:
        async for number in self.drain.requests(numbers(self.given)):
            self.seen.append(number)
            self.first.set()
        return "ended"


async def test_requests_come_until_the_stream_ends() -> None:
    reader = Reader()
    for number in (1, 2, None):
        reader.given.put_nowait(number)
    assert await asyncio.wait_for(reader.task, 20) == "ended"
    assert reader.seen == [1, 2]


async def test_a_drain_ends_a_stream_that_waits() -> None:
    reader = Reader()
    reader.given.put_nowait(1)
    await asyncio.wait_for(reader.first.wait(), 20)
    reader.drain.begin()
    assert await asyncio.wait_for(reader.task, 20) == "ended"
    assert not reader.task.cancelling()
    late = [number async for number in reader.drain.requests(numbers(reader.given))]
    assert late == []


async def test_who_is_cancelled_is_cancelled_whether_or_not_there_is_a_drain() -> None:
    for drains in (False, True):
        reader = Reader()
        reader.given.put_nowait(1)
        await asyncio.wait_for(reader.first.wait(), 20)
        reader.task.cancel()
        if drains:
            reader.drain.begin()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reader.task, 20)


async def test_a_fault_of_the_stream_is_raised() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for number in Drain().requests(broken()):
            seen.append(number)
    assert seen == [1]
