"""Streams whose requests are worked on side by side and answered in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


async def answer_in_order(
    requests: AsyncIterator[RequestT],
    answer: Callable[[RequestT], Awaitable[ResponseT]],
    limit: int,
) -> AsyncIterator[ResponseT]:
    """Answers of `answer`, in the order of the requests, `limit` of them in the making.

    A caller that does not read its answers is not read from: memory is bounded.
    """
    answers: asyncio.Queue[asyncio.Task[ResponseT] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(limit)

    async def read() -> None:
        try:
            async for request in requests:
                await slots.acquire()
                answers.put_nowait(asyncio.ensure_future(answer(request)))
        finally:
            answers.put_nowait(None)

    reader = asyncio.ensure_future(read())
    working: asyncio.Task[ResponseT] | None = None
    try:
        while (working := await answers.get()) is not None:
            yield await working
            slots.release()
        await reader
    finally:
        reader.cancel()
        for task in (working, *_rest(answers)):
            if task is not None:
                task.cancel()


def _rest(
    answers: "asyncio.Queue[asyncio.Task[ResponseT] | None]",
) -> list["asyncio.Task[ResponseT] | None"]:
    return [answers.get_nowait() for _ in range(answers.qsize())]
