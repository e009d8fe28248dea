"""Processes that call servers.

A caller that shared a process with the engine under comparison would wait for
that one's locks.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")


class Callers:
    """Processes that call; a context manager.

    What they run are functions that block, and take and give plain data.
    """

    def __init__(self, processes: int = 2) -> None:
        # Forked, a child would inherit the threads' locks of this process.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, mp_context=context)

    def __enter__(self) -> "Callers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(
        self,
        function: Callable[ParametersT, ResultT],
        *arguments: ParametersT.args,
        **more: ParametersT.kwargs,
    ) -> ResultT:
        """What the function returns, run in one of them."""
        return self.start(function, *arguments, **more).result()

    def start(
        self,
        function: Callable[ParametersT, ResultT],
        *arguments: ParametersT.args,
        **more: ParametersT.kwargs,
    ) -> "Future[ResultT]":
        """The same without waiting for it."""
        return self._pool.submit(function, *arguments, **more)
