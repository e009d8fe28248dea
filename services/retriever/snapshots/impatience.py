"""Reading from a location that may hang: a disk of the network that went away never answers."""

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread

from sirdar.errors import Unavailable

HANGS = "SNAPSHOT_LOCATION_HANGS"

_WAITING_CHUNKS = 2
_GIVEN_UP_SECONDS = 0.2


def impatient(chunks: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """The same chunks, read by a thread of their own.

    Raises Unavailable where none comes for so long; the thread is left to whatever it waits
    for.
    """
    reading = _Reading(chunks)
    try:
        while (chunk := reading.next(seconds)) is not None:
            yield chunk
    finally:
        reading.given_up.set()


class _Reading:
    """A thread that reads, and what it has read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.given_up = Event()
        self._chunks = chunks
        # None: there are no more.
        self._read: Queue[bytes | BaseException | None] = Queue(_WAITING_CHUNKS)
        Thread(target=self._run, name="snapshot-read", daemon=True).start()

    def next(self, seconds: float) -> bytes | None:
        try:
            item = self._read.get(timeout=seconds)
        except Empty:
            raise Unavailable(
                f"the snapshot location did not answer for {seconds:g} s: see that it can be "
                "reached",
                reason=HANGS,
            ) from None
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._put(chunk)
                if self.given_up.is_set():
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again to whoever reads
            self._put(error)

    def _put(self, item: bytes | BaseException | None) -> None:
        while not self.given_up.is_set():
            try:
                self._read.put(item, timeout=_GIVEN_UP_SECONDS)
            except Full:
                continue
            return
