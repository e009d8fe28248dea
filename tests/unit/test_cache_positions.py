"""Waiting for where a collection's writes stand."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.backends import Retriever
from gateway.cache.positions import Positions
from services.runtime.deadline import set_deadline
from sirdar.errors import DeadlineExceeded
from sirdar.v1 import retriever_pb2


class Asked:
    """A retriever that answers when it is told to."""

    rpc = SimpleNamespace(GetPosition=None)

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[retriever_pb2.GetPositionResponse]] = []
        self._again = asyncio.Event()

    async def call(self, method: Any, request: Any, limit_seconds: float) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        if len(self.answers) == 2:
            self._again.set()
        return await answer

    async def again(self) -> None:
        await asyncio.wait_for(self._again.wait(), 20)


async def test_who_waits_for_the_next_question_waits_no_longer_than_its_own_deadline() -> None:
    asked = Asked()
    positions = Positions(cast(Retriever, asked))
    first = asyncio.create_task(positions.of("default", ["notes"]))
    await asyncio.sleep(0)

    async def second() -> None:
        set_deadline(0.02)
        await positions.of("default", ["notes"])

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(asyncio.create_task(second()), 20)
    asked.answers[0].set_result(retriever_pb2.GetPositionResponse())
    await first
    await asked.again()
    asked.answers[1].set_result(retriever_pb2.GetPositionResponse())


async def test_a_fault_reaches_all_who_wait() -> None:
    asked = Asked()
    positions = Positions(cast(Retriever, asked))
    first = asyncio.create_task(positions.of("default", ["notes"]))
    await asyncio.sleep(0)
    second = asyncio.create_task(positions.of("default", ["notes"]))
    await asyncio.sleep(0)
    asked.answers[0].set_result(retriever_pb2.GetPositionResponse())
    await first
    await asked.again()
    asked.answers[1].set_exception(ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        await asyncio.wait_for(second, 20)
