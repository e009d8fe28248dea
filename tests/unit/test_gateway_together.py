"""Calls that are needed all."""

import asyncio

import pytest

from gateway.together import together
from sirdar.errors import Unavailable


class Calls:
    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[str] = []

    async def waits(self) -> str:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            # As a call that is cancelled takes a moment to its end.
            await asyncio.sleep(0)
            self.ended.append("cancelled")
        return ""

    async def fails(self) -> str:
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            raise Unavailable("away") from cause


async def test_answers_come_in_the_order_of_the_calls() -> None:
    async def answer(value: int, turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return value

    assert await together(answer(at, 5 - at) for at in range(5)) == [0, 1, 2, 3, 4]
    assert await together([]) == []


async def test_where_one_fails_the_others_are_at_their_end() -> None:
    calls = Calls()
    with pytest.raises(Unavailable) as failed:
        await together([calls.waits(), calls.fails(), calls.waits()])
    assert isinstance(failed.value.__cause__, ValueError)
    assert calls.ended == ["cancelled"] * calls.begun


async def test_who_is_cancelled_ends_all() -> None:
    calls = Calls()
    task = asyncio.create_task(together([calls.waits(), calls.waits()]))
    for _ in range(3):
        await asyncio.sleep(0)
    assert calls.begun == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.ended == ["cancelled"] * 2
