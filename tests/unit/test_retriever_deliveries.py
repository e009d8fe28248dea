"""Results of threads on an event loop: what arrives, in how many wake-ups, what is cancelled."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import pytest

from services.retriever.deliveries import Deliveries
from sirdar.errors import Unavailable

T = TypeVar("T")


def in_thread(work: object) -> None:
    assert callable(work)
    thread = Thread(target=work)
    thread.start()
    thread.join()


async def started(*results: Coroutine[Any, Any, T]) -> list[asyncio.Task[T]]:
    tasks = [asyncio.create_task(result) for result in results]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_found_together_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = Deliveries()
    sources: list[Future[int]] = [Future() for _ in range(5)]
    tasks = await started(*(deliveries.result(source) for source in sources))
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    woken: list[object] = []

    def counted(callback: object, *arguments: object) -> object:
        woken.append(callback)
        return wake(callback, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

    def answer() -> None:
        for at, source in enumerate(sources):
            source.set_result(at)

    in_thread(answer)
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    assert len(woken) == 1


async def test_results_that_come_later_are_delivered_too() -> None:
    deliveries = Deliveries()
    for at in range(3):
        source: Future[int] = Future()
        (task,) = await started(deliveries.result(source))
        in_thread(lambda source=source, at=at: source.set_result(at))
        assert await task == at


async def test_what_is_there_already_is_delivered() -> None:
    source: Future[str] = Future()
    source.set_result("found")
    assert await Deliveries().result(source) == "found"


async def test_an_error_is_raised_to_its_own_caller() -> None:
    deliveries = Deliveries()
    bad: Future[int] = Future()
    good: Future[int] = Future()
    tasks = await started(deliveries.result(bad), deliveries.result(good))

    def answer() -> None:
        bad.set_exception(Unavailable("closing"))
        good.set_result(1)

    in_thread(answer)
    with pytest.raises(Unavailable, match="closing"):
        await tasks[0]
    assert await tasks[1] == 1


async def test_a_caller_that_is_gone_cancels_what_waits_and_holds_up_nobody() -> None:
    deliveries = Deliveries()
    gone: Future[int] = Future()
    late: Future[int] = Future()
    stays: Future[int] = Future()
    # Under way: it cannot be cancelled any more.
    late.set_running_or_notify_cancel()
    tasks = await started(*(deliveries.result(source) for source in (gone, late, stays)))
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    assert gone.cancelled() and not late.cancelled()

    def answer() -> None:
        late.set_result(1)
        stays.set_result(2)

    in_thread(answer)
    assert await tasks[2] == 2


async def test_a_search_that_is_cancelled_elsewhere_ends_its_caller() -> None:
    source: Future[int] = Future()
    (task,) = await started(Deliveries().result(source))
    source.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
