"""Streams both ways for code that blocks."""

import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from sirdar.client.message_stream import MessageStream, Method
from sirdar.client.stream_session import Answer, StreamSession

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")


class StreamRun(Generic[ItemT, OutcomeT]):
    """Pumps items and answers between the caller, the session and its streams.

    Items are taken in the caller's thread, so that a generator may use
    what belongs to it (a cursor, a file).
    """

    def __init__(
        self,
        method: Method,
        session: StreamSession[ItemT, OutcomeT],
        items: Iterable[ItemT],
        stall_seconds: float,
    ) -> None:
        self._method = method
        self._session = session
        self._source = iter(items)
        self._exhausted = False
        self._stall_seconds = stall_seconds
        self._stream: MessageStream | None = None
        self._answers: SimpleQueue[Answer] = SimpleQueue()

    def outcomes(self) -> Iterator[OutcomeT]:
        """As the session hands them out."""
        session = self._session
        try:
            while True:
                if not self._exhausted and session.has_room:
                    self._pull()
                self._send()
                yield from session.outcomes()
                if self._exhausted and session.empty:
                    return
                if session.awaiting:
                    self._receive()
                elif self._exhausted or not session.has_room:
                    time.sleep(session.held_seconds)
        finally:
            if self._stream is not None:
                self._stream.cancel()

    def _pull(self) -> None:
        try:
            self._session.add(next(self._source))
        except StopIteration:
            self._exhausted = True

    def _send(self) -> None:
        for request in self._session.requests():
            if self._stream is None:
                self._answers = SimpleQueue()
                self._stream = MessageStream(self._method, self._answers.put)
            self._stream.send(request)
        if self._stream is not None and self._exhausted and self._session.all_sent:
            # Tells the server that nothing more comes to fill a batch with.
            self._stream.end_requests()

    def _receive(self) -> None:
        """Takes an answer, waiting for it only where nothing else can be done."""
        held = self._session.held_seconds
        try:
            if self._exhausted or not self._session.has_room:
                answer = self._answers.get(timeout=held or self._stall_seconds)
            elif self._answers.empty():
                return
            else:
                answer = self._answers.get()
        except Empty:
            if held:
                return
            raise self._session.stalled(self._stall_seconds) from None
        fault = self._session.take(answer)
        if fault is not None and self._stream is not None:
            self._stream.cancel()
            self._stream = None
            time.sleep(self._session.resume(fault))
