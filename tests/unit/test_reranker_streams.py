"""Items of a stream are worked on in groups, answered as they are done, and bounded."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.reranker.streams import GROUP_ITEMS, GroupedAnswers
from services.reranker.top_passages import TopPassages


class Work:
    """Answers groups when it is told to; remembers them."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gates: list[asyncio.Event] = []
        self.read = 0

    async def answer(self, group: Sequence[int]) -> list[int]:
        self.groups.append(list(group))
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return [-item for item in group]

    async def items(self, count: int) -> AsyncIterator[int]:
        for item in range(1, count + 1):
            self.read += 1
            yield item

    def open(self) -> None:
        for gate in self.gates:
            gate.set()


async def settle() -> None:
    for _ in range(500):
        await asyncio.sleep(0)


async def collect(answers: AsyncIterator[int], into: list[int]) -> None:
    async for answer in answers:
        into.append(answer)


async def test_first_items_start_at_once_and_those_that_wait_go_together() -> None:
    work = Work()
    answers: list[int] = []
    grouped = GroupedAnswers(work.answer, 4 * GROUP_ITEMS)
    task = asyncio.create_task(collect(grouped.of(work.items(40)), answers))
    await settle()
    # Nobody waits for company while there is room ...
    assert work.groups == [[1], [2], [3], [4]]
    work.gates[2].set()
    await settle()
    # ... and the first place that is free is for all who came meanwhile.
    assert answers == [-3]
    assert work.groups[4:] == [list(range(5, 5 + GROUP_ITEMS))]
    while not task.done():
        work.open()
        await settle()
    assert sorted(answers) == list(range(-40, 0))


@pytest.mark.parametrize("limit", [1, 5, GROUP_ITEMS, 50])
async def test_no_more_is_read_than_may_be_unanswered(limit: int) -> None:
    work = Work()
    answers = GroupedAnswers(work.answer, limit).of(work.items(200))
    first = asyncio.ensure_future(anext(answers))
    await settle()
    # One more was read, and waits for room.
    assert work.read == limit + 1
    work.gates[0].set()
    assert await first == -1
    # Nobody takes the next answer: nothing more is read.
    work.open()
    await settle()
    assert work.read <= limit + 2
    await answers.aclose()


async def test_fault_of_items_or_answer_ends_the_answers_and_the_work() -> None:
    work = Work()

    async def broken() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await anext(GroupedAnswers(work.answer, 64).of(broken()))
    assert work.groups == [[1], [2]]

    async def faulty(group: Sequence[int]) -> list[int]:
        raise KeyError("faulty")

    with pytest.raises(KeyError):
        await anext(GroupedAnswers(faulty, 64).of(work.items(3)))


async def test_caller_that_leaves_cancels_what_is_worked_on() -> None:
    work = Work()
    cancelled: list[int] = []

    async def answer(group: Sequence[int]) -> list[int]:
        try:
            return await work.answer(group)
        except asyncio.CancelledError:
            cancelled.extend(group)
            raise

    answers = GroupedAnswers(answer, 64).of(work.items(2))
    first = asyncio.ensure_future(anext(answers))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await settle()
    assert sorted(cancelled) == [1, 2]


def test_best_passages_of_many_are_kept_in_order() -> None:
    best = TopPassages(3)
    for place, logit in enumerate([0.5, 2.0, -1.0, 2.0, 7.0, 0.5]):
        best.add(f"p{place}", logit, place)
    assert best.ids() == ["p4", "p1", "p3"]
    few = TopPassages(3)
    few.add("only", 0.0, 0)
    assert few.ids() == ["only"]
