"""A second attempt at what is slow."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.backends.hedge import hedged
from sirdar.errors import Unavailable


class Attempt:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def __call__(self) -> str:
        self.asked.set()
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def once(attempt: Callable[[], Awaitable[str]]) -> Callable[[int], Awaitable[str] | None]:
    return lambda moment: attempt()


async def test_an_answer_in_time_needs_no_second_attempt() -> None:
    first = Attempt()
    first.answer.set_result("one")

    def never(moment: int) -> None:
        pytest.fail("asked for a second attempt")

    found = await hedged(first(), never, (60,))
    assert (found.reply, found.second_won) == ("one", False)


async def test_the_second_wins_and_the_first_is_cancelled() -> None:
    first, second = Attempt(), Attempt()
    second.answer.set_result("two")
    found = await hedged(first(), once(second), (0,))
    assert (found.reply, found.second_won) == ("two", True)
    assert first.cancelled


async def test_the_first_wins_and_the_second_is_cancelled() -> None:
    first, second = Attempt(), Attempt()
    running = asyncio.create_task(hedged(first(), once(second), (0,)))
    await second.asked.wait()
    first.answer.set_result("one")
    found = await running
    assert (found.reply, found.second_won) == ("one", False)
    assert second.cancelled


async def test_without_a_second_the_first_is_waited_for() -> None:
    first = Attempt()
    running = asyncio.create_task(hedged(first(), lambda moment: None, (0,)))
    await first.asked.wait()
    first.answer.set_result("one")
    assert (await running).reply == "one"


async def test_one_failure_leaves_the_other_attempt_its_chance() -> None:
    first, second = Attempt(), Attempt()
    running = asyncio.create_task(hedged(first(), once(second), (0,)))
    await second.asked.wait()
    first.answer.set_exception(Unavailable("one is away"))
    await asyncio.sleep(0)
    second.answer.set_result("two")
    assert (await running).reply == "two"


async def test_the_first_failure_is_raised_where_both_fail() -> None:
    first, second = Attempt(), Attempt()
    running = asyncio.create_task(hedged(first(), once(second), (0,)))
    await second.asked.wait()
    second.answer.set_exception(Unavailable("two is away"))
    first.answer.set_exception(Unavailable("one is away"))
    with pytest.raises(Unavailable, match="one is away"):
        await running


async def test_who_gives_up_leaves_no_attempt_behind() -> None:
    first, second = Attempt(), Attempt()
    running = asyncio.create_task(hedged(first(), once(second), (0,)))
    await second.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert first.cancelled and second.cancelled


async def test_who_may_not_ask_at_one_moment_is_asked_at_the_next() -> None:
    first, second = Attempt(), Attempt()
    second.answer.set_result("two")
    moments = []

    def sparing(moment: int) -> Awaitable[str] | None:
        moments.append(moment)
        return second() if moment == 1 else None

    found = await hedged(first(), sparing, (0, 0, 0))
    assert (found.reply, moments) == ("two", [0, 1])
