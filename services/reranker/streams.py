"""Streams whose items are worked on side by side and answered as they are done."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

# What is there together is answered together, up to so many: enough to share the cost of a
# job, and few enough that the first scores leave soon (16 pairs take two cores 90 ms).
GROUP_ITEMS = 16


class GroupedAnswers(Generic[ItemT, AnswerT]):
    """Answers of `answer`, the first group that is done first.

    An item that comes while fewer than the most groups are worked on starts
    one at once; those that come while all are busy go together. At most
    `limit` items are read and not answered: a caller that does not read its
    answers is not read from, and memory is bounded.
    """

    def __init__(
        self, answer: Callable[[Sequence[ItemT]], Awaitable[Sequence[AnswerT]]], limit: int
    ) -> None:
        self._answer = answer
        self._most_groups = max(1, limit // GROUP_ITEMS)
        self._room = asyncio.Semaphore(limit)
        self._waiting: deque[ItemT] = deque()
        self._working: set[asyncio.Task[Sequence[AnswerT]]] = set()
        self._done: asyncio.Queue[asyncio.Task[Sequence[AnswerT]] | None] = asyncio.Queue()

    async def of(self, items: AsyncIterator[ItemT]) -> AsyncGenerator[AnswerT, None]:
        """One answer an item. What `items` or `answer` raises ends the answers."""
        reader = asyncio.ensure_future(self._read(items))
        reading = True
        try:
            while reading or self._working:
                task = await self._done.get()
                if task is None:
                    await reader
                    reading = False
                    continue
                self._working.discard(task)
                self._start()
                for answer in task.result():
                    yield answer
                    self._room.release()
        finally:
            reader.cancel()
            for task in self._working:
                task.cancel()

    async def _read(self, items: AsyncIterator[ItemT]) -> None:
        try:
            async for item in items:
                await self._room.acquire()
                self._waiting.append(item)
                self._start()
        finally:
            self._done.put_nowait(None)

    def _start(self) -> None:
        """Starts groups of what waits while there may be more of them."""
        while self._waiting and len(self._working) < self._most_groups:
            count = min(GROUP_ITEMS, len(self._waiting))
            group = [self._waiting.popleft() for _ in range(count)]
            task = asyncio.ensure_future(self._answer(group))
            self._working.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[Sequence[AnswerT]]) -> None:
        if not task.cancelled():
            # Looked at, so that one that nobody waits for any more is not logged as a fault.
            task.exception()
        self._done.put_nowait(task)
