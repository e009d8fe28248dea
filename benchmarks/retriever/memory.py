"""Resident memory of a server and its children."""

from threading import Event, Thread

import psutil

_SAMPLE_SECONDS = 0.25


def proportional_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it.

    The kernel divides a page by the processes that have it: a builder's pages
    that are the server's too count once.
    """
    parent = psutil.Process(pid)
    total = 0
    for process in (parent, *parent.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


class PeakMemory:
    """The largest that the memory of a server and its children was inside the block."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._done = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, proportional_bytes(self._pid))
