"""Streams whose items are worked on side by side and answered as they are done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


async def answer_as_done(
    items: AsyncIterator[ItemT], answer: Callable[[ItemT], Awaitable[AnswerT]], limit: int
) -> AsyncIterator[AnswerT]:
    """Answers of `answer`, the first that is done first, `limit` of them in the making.

    A caller that does not read its answers is not read from: memory is
    bounded. What `items` or `answer` raises ends the answers.
    """
    done: asyncio.Queue[asyncio.Task[AnswerT] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(limit)
    working: set[asyncio.Task[AnswerT]] = set()

    def finish(task: asyncio.Task[AnswerT]) -> None:
        if not task.cancelled():
            # Looked at, so that one that nobody waits for any more is not logged as a fault.
            task.exception()
        done.put_nowait(task)

    async def read() -> None:
        try:
            async for item in items:
                await slots.acquire()
                task = asyncio.ensure_future(answer(item))
                working.add(task)
                task.add_done_callback(finish)
        finally:
            done.put_nowait(None)

    reader = asyncio.ensure_future(read())
    reading = True
    try:
        while reading or working:
            task = await done.get()
            if task is None:
                await reader
                reading = False
                continue
            working.discard(task)
            yield task.result()
            slots.release()
    finally:
        reader.cancel()
        for task in working:
            task.cancel()
