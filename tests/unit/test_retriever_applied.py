"""Reads that wait for writes which will not come."""

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
