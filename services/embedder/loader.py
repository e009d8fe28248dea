"""Runs what loads models, one at a time, where nothing has to wait for its end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

ResultT = TypeVar("ResultT")


class Loader:
    """One blocking call at a time, in a daemon thread.

    The interpreter waits at its exit for the threads of an executor: a process that is told
    to end would go on for as long as a model loads.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[[], ResultT]) -> ResultT:
        """Raises what the call raises. One whose caller gives up runs on, unheeded."""
        async with self._turn:
            future: Future[ResultT] = Future()
            # From now on it cannot be cancelled, so that the thread may always set it.
            future.set_running_or_notify_cancel()
            thread = Thread(target=_run, args=(call, future), name="model-loader", daemon=True)
            thread.start()
            return await asyncio.wrap_future(future)


def _run(call: Callable[[], ResultT], future: "Future[ResultT]") -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
