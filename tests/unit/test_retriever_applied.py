"""Reads that wait for writes which will not come, or that nobody waits for any more."""

import asyncio

from services.retriever.applied import AppliedSeq


async def test_who_waits_goes_on_when_nothing_more_will_be_applied() -> None:
    applied = AppliedSeq()
    waiting = asyncio.create_task(applied.wait(5, 60))
    await asyncio.sleep(0)
    assert not waiting.done()
    applied.release()
    await asyncio.wait_for(waiting, 10)
    await applied.wait(9, 0)


def test_a_loop_that_was_closed_does_not_keep_others_from_what_they_wait_for() -> None:
    applied = AppliedSeq()
    closed, waits = asyncio.new_event_loop(), asyncio.new_event_loop()
    tasks = [loop.create_task(applied.wait(5, 60)) for loop in (closed, waits)]
    for loop in (closed, waits):
        loop.run_until_complete(asyncio.sleep(0))
    closed.close()
    applied.advance(5)
    waits.run_until_complete(asyncio.wait_for(tasks[1], 10))
    assert not tasks[0].done()
    waits.close()
