"""Calls that are needed all: where one fails, nobody waits for the others."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers, in order. Raises what the first of them to fail raises; the others are
    cancelled, and at their end, by then."""
    failed: BaseException | None = None
    tasks: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(call) for call in calls]
    except BaseExceptionGroup as group_failed:
        failed = group_failed.exceptions[0]
    if failed is not None:
        # Outside of the block: its own cause stays the one that is told.
        raise failed
    return [task.result() for task in tasks]
