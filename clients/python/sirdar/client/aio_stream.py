"""Streams both ways for asyncio."""

import asyncio
import contextlib
from asyncio import Queue
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Generic, TypeVar

from sirdar.client.message_stream import MessageStream, Method
from sirdar.client.stream_session import Answer, StreamSession
from sirdar.errors import SirdarError

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")


class Source(Generic[ItemT]):
    """The caller's items, from an iterable or an async one, one pull at a time."""

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self.exhausted = False
        self.pull: asyncio.Task[tuple[ItemT, ...]] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._async = _async(items)

    def start(self) -> None:
        """Begins to pull the next item, unless that is under way."""
        if self.pull is None and not self.exhausted:
            self.pull = asyncio.create_task(self._next())

    async def _next(self) -> tuple[ItemT, ...]:
        try:
            return (await anext(self._async),)
        except StopAsyncIteration:
            self.exhausted = True
            return ()

    def taken(self) -> tuple[ItemT, ...]:
        """The item that was pulled, if one was since the last time."""
        if self.pull is None or not self.pull.done():
            return ()
        pull, self.pull = self.pull, None
        return pull.result()

    async def cancel(self) -> None:
        if self.pull is not None:
            self.pull.cancel()
            await asyncio.wait((self.pull,))


async def _async(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item


class StreamRun(Generic[ItemT, OutcomeT]):
    """Pumps items and answers between the caller, the session and its streams."""

    def __init__(
        self,
        method: Method,
        session: StreamSession[ItemT, OutcomeT],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        stall_seconds: float,
    ) -> None:
        self._method = method
        self._session = session
        self._source = Source(items)
        self._stall_seconds = stall_seconds
        self._stream: MessageStream | None = None
        self._answers: Queue[Answer] = Queue()
        self._answer: asyncio.Task[Answer] | None = None
        self._fault: SirdarError | None = None

    async def outcomes(self) -> AsyncIterator[OutcomeT]:
        """As the session hands them out."""
        session, source = self._session, self._source
        try:
            while True:
                for outcome in session.outcomes():
                    yield outcome
                # After the outcomes: those of the broken stream are not lost with it.
                if self._fault is not None:
                    await self._recover(self._fault)
                if source.exhausted and session.empty:
                    return
                if session.has_room:
                    source.start()
                self._send()
                await self._wait()
                for item in source.taken():
                    session.add(item)
                self._receive()
        finally:
            if self._answer is not None:
                self._answer.cancel()
            if self._stream is not None:
                self._stream.cancel()
            await source.cancel()

    def _send(self) -> None:
        for request in self._session.requests():
            if self._stream is None:
                self._open()
            assert self._stream is not None
            self._stream.send(request)
        if self._stream is not None and self._source.exhausted and self._session.all_sent:
            # Tells the server that nothing more comes to fill a batch with.
            self._stream.end_requests()
        if self._answer is None and self._session.awaiting:
            self._answer = asyncio.create_task(self._answers.get())

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        answers = self._answers = Queue()

        def deliver(answer: Answer) -> None:
            # The loop may be closed before a stream that was cancelled has ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(answers.put_nowait, answer)

        self._stream = MessageStream(self._method, deliver)

    async def _wait(self) -> None:
        """Until there is an item or an answer. Raises DeadlineExceeded on a stall."""
        waiting = [task for task in (self._source.pull, self._answer) if task is not None]
        held = self._session.held_seconds
        if not waiting:
            await asyncio.sleep(held)
            return
        timeout = held or (self._stall_seconds if self._session.awaiting else None)
        done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done and not held:
            raise self._session.stalled(self._stall_seconds)

    def _receive(self) -> None:
        """Takes the answers that are there."""
        if self._answer is None or not self._answer.done():
            return
        self._fault = self._session.take(self._answer.result())
        self._answer = None
        while self._fault is None and self._session.awaiting and not self._answers.empty():
            self._fault = self._session.take(self._answers.get_nowait())

    async def _recover(self, fault: SirdarError) -> None:
        """Prepares for a new stream."""
        if self._stream is not None:
            self._stream.cancel()
        self._stream = None
        self._fault = None
        await asyncio.sleep(self._session.resume(fault))
