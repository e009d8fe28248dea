"""A second attempt at what is slow: the first answer counts, the other attempt is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hedged(Generic[T]):
    reply: T
    second_won: bool


async def hedged(
    first: Awaitable[T],
    second: Callable[[int], Awaitable[T] | None],
    moments: Sequence[float],
) -> Hedged[T]:
    """Waits for the first attempt; when it takes longer than a moment, in seconds, asks for the
    second with that moment's place, until there is one, and takes the earlier answer.

    Neither attempt outlives this call. Raises the first's error where both
    fail. Dean and Barroso, The tail at scale, 2013.
    """
    attempts = [asyncio.ensure_future(first)]
    passed = 0.0
    try:
        for place, moment in enumerate(moments):
            await asyncio.wait(attempts, timeout=moment - passed)
            passed = moment
            if attempts[0].done():
                break
            if (another := second(place)) is not None:
                attempts.append(asyncio.ensure_future(another))
                break
        return await _earliest(attempts)
    finally:
        left = [attempt for attempt in attempts if not attempt.done()]
        for attempt in left:
            attempt.cancel()
        if left:
            # A cancelled call is at its end when it says so: nothing is left behind.
            await asyncio.gather(*left, return_exceptions=True)


async def _earliest(attempts: Sequence[asyncio.Future[T]]) -> Hedged[T]:
    running = set(attempts)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for attempt in attempts:
            if attempt in done and not attempt.cancelled() and attempt.exception() is None:
                return Hedged(attempt.result(), attempt is not attempts[0])
    return Hedged(await attempts[0], second_won=False)
