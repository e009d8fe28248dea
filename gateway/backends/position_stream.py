"""GetPosition over one long stream: every search that may be answered from a cache asks it, and
a call of its own takes more than twice as long."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration

from sirdar.errors import STATUS_TRAILER
from sirdar.v1 import retriever_pb2, retriever_pb2_grpc

# An older retriever does not have the stream; it is tried again after so long.
_OLDER_SECONDS = 30.0
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_Question: TypeAlias = retriever_pb2.StreamPositionsRequest
_Answer: TypeAlias = retriever_pb2.StreamPositionsResponse


class StreamedPositions:
    """Called like the stub's GetPosition, which it calls where there is no stream to be had."""

    def __init__(self, stub: "retriever_pb2_grpc.RetrieverServiceAsyncStub") -> None:
        self._stub = stub
        self._stream: _Stream | None = None
        self._older_until = 0.0

    async def __call__(
        self,
        request: retriever_pb2.GetPositionRequest,
        *,
        timeout: float,  # noqa: ASYNC109 - as gRPC has it
        metadata: tuple[tuple[str, str], ...],
    ) -> retriever_pb2.GetPositionResponse:
        """Raises AioRpcError."""
        started = time.monotonic()
        if started >= self._older_until:
            if self._stream is None or self._stream.ended is not None:
                self._stream = _Stream(self._stub.StreamPositions)
            try:
                return await self._stream.ask(request, timeout)
            except _Ended as ended:
                if ended.code is grpc.StatusCode.UNIMPLEMENTED:
                    self._older_until = time.monotonic() + _OLDER_SECONDS
        # What is wrong with the stream is wrong with this call too, or it was the stream's alone.
        left = max(0.0, started + timeout - time.monotonic())
        return await self._stub.GetPosition(request, timeout=left, metadata=metadata)


class _Ended(Exception):
    """There will be no more answers."""

    def __init__(self, code: grpc.StatusCode | None = None) -> None:
        super().__init__(code)
        self.code = code


class _Stream:
    """Answers come in the order of the questions."""

    def __init__(
        self, stream: Callable[[AsyncIterator[_Question]], AsyncIterable[_Answer]]
    ) -> None:
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()
        self._waiting: deque[asyncio.Future[_Answer]] = deque()
        self._answered = 0
        self.ended: _Ended | None = None
        self._reading = asyncio.create_task(self._read(stream(self._asked())))

    async def ask(
        self, request: retriever_pb2.GetPositionRequest, limit_seconds: float
    ) -> retriever_pb2.GetPositionResponse:
        """Raises AioRpcError for what is refused or not answered in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()
        answered = self._answered
        limit = Duration()
        limit.FromNanoseconds(round(limit_seconds * 1e9))
        self._questions.put_nowait(_Question(request=request, timeout=limit))
        self._waiting.append(answer)
        late = loop.call_later(limit_seconds, _give_up, answer)
        try:
            response = await answer
        except TimeoutError:
            if answered == self._answered:
                # It hangs: those who come next try a new one.
                self._end(None)
                self._reading.cancel()
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "no position in time") from None
        finally:
            late.cancel()
        if response.HasField("error"):
            code = _CODES.get(response.error.code, grpc.StatusCode.UNKNOWN)
            raise _error(code, response.error.message, response.error.SerializeToString())
        return response.response

    async def _asked(self) -> AsyncIterator[_Question]:
        while True:
            yield await self._questions.get()

    async def _read(self, answers: AsyncIterable[_Answer]) -> None:
        """Until the stream ends, for whatever reason."""
        code: grpc.StatusCode | None = None
        try:
            async for response in answers:
                self._answered += 1
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(response)
        except grpc.aio.AioRpcError as failed:
            code = failed.code()
        finally:
            self._end(code)

    def _end(self, code: grpc.StatusCode | None) -> None:
        if self.ended is not None:
            return
        self.ended = _Ended(code)
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(self.ended)


def _give_up(answer: "asyncio.Future[_Answer]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _error(code: grpc.StatusCode, message: str, status: bytes | None = None) -> grpc.RpcError:
    trailers = grpc.aio.Metadata()
    if status is not None:
        trailers.add(STATUS_TRAILER, status)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, message)
