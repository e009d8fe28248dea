"""What happens around every call of a tier: deadline, request id, metrics, logs, errors.

grpc.aio runs its interceptors anew for every call; these are put around a
method's handler once, when it is first called.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.runtime.deadline import set_deadline
from services.runtime.telemetry import REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT
from sirdar.errors import (
    PUSHBACK_TRAILER,
    STATUS_TRAILER,
    Internal,
    InvalidArgument,
    SirdarError,
    to_status,
)

REQUEST_ID = "x-request-id"
# Whom a tier works for when it calls another one: work is shared fairly between these.
CALLER = "x-sirdar-caller"

log: structlog.stdlib.BoundLogger = structlog.get_logger()
_request_id: ContextVar[str] = ContextVar("request_id", default="")
_caller: ContextVar[str] = ContextVar("caller", default="")
# Seeded by the system once. To ask that each time lets go of the interpreter's lock: 85 us until
# it is back where threads compute beside the event loop.
_identities = random.Random()


def request_id() -> str:
    """The id of the call that is being served, to be sent along; empty outside of one."""
    return _request_id.get()


def caller() -> str:
    """Whom the call that is served is for: as it says, else its peer; empty outside of one."""
    return _caller.get()


def begin_request(asked: str) -> str:
    """Gives the current call its id for calls and log lines: the caller's, or a new one.

    Only what may stand in a header of the next call is taken over.
    """
    usable = asked.isascii() and asked.isprintable()
    identity = (asked[:64] if usable else "") or f"{_identities.getrandbits(64):016x}"
    _request_id.set(identity)
    structlog.contextvars.bind_contextvars(request_id=identity)
    return identity


# Messages are opaque here: a handler's own types stay with its servicer.
Request = Any
Response = Any
if TYPE_CHECKING:  # generic in the type stubs only
    Handler: TypeAlias = grpc.RpcMethodHandler[Request, Response]
else:
    Handler = grpc.RpcMethodHandler


class Context(Protocol):
    """What is used of grpc.aio's ServicerContext."""

    def invocation_metadata(self) -> Any: ...
    def peer(self) -> str: ...
    def time_remaining(self) -> float | None: ...
    def set_trailing_metadata(self, trailing_metadata: Any) -> None: ...
    def trailing_metadata(self) -> Any: ...
    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> None: ...


class MethodInterceptor:
    """Wraps the handler of one method, named `/package.Service/Method`."""

    def __init__(self, tier: str, full_method: str) -> None:
        _, service, self._method = full_method.split("/")
        labels = (tier, service, self._method)
        self._labels = labels
        self._seconds = REQUEST_SECONDS.labels(*labels)
        self._in_flight = REQUESTS_IN_FLIGHT.labels(*labels)
        self._ok = REQUESTS.labels(*labels, "OK")
        # Bound once: most servers do not log it, and binding took 2.5 % of a small call.
        self._log_answer = log.bind(method=self._method).debug

    def wrap(self, handler: Handler) -> Handler:
        """The same method with everything around it."""
        # grpc's types know only of behaviours that block.
        behaviours: Any = handler
        kind = (
            f"{'stream' if handler.request_streaming else 'unary'}_"
            f"{'stream' if handler.response_streaming else 'unary'}"
        )
        around = self._stream if handler.response_streaming else self._unary
        read = handler.request_deserializer
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(
            around(getattr(behaviours, kind)),
            read if read is None or handler.request_streaming else _tolerant(read),
            handler.response_serializer,
        )
        return wrapped

    def _unary(
        self, behaviour: Callable[[Request, Context], Awaitable[Response]]
    ) -> Callable[[Request, Context], Awaitable[Response]]:
        async def call(request: Request, context: Context) -> Response:
            started = self._begin(context)
            try:
                _check_readable(request)
                response = await behaviour(request, context)
            except BaseException as error:
                await self._fail(error, context, started)
                raise
            self._end(started)
            return response

        return call

    def _stream(
        self, behaviour: Callable[[Request, Context], AsyncIterator[Response]]
    ) -> Callable[[Request, Context], AsyncIterator[Response]]:
        async def call(request: Request, context: Context) -> AsyncIterator[Response]:
            started = self._begin(context)
            try:
                _check_readable(request)
                async for response in behaviour(request, context):
                    yield response
            except BaseException as error:
                await self._fail(error, context, started)
                raise
            self._end(started)

        return call

    def _begin(self, context: Context) -> float:
        self._in_flight.inc()
        set_deadline(context.time_remaining())
        asked = named = ""
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID:
                asked = str(value)
            elif key == CALLER:
                named = str(value)
        _caller.set(named or context.peer())
        identity = begin_request(asked)
        context.set_trailing_metadata(((REQUEST_ID, identity),))
        return time.perf_counter()

    def _end(self, started: float) -> None:
        seconds = time.perf_counter() - started
        self._in_flight.dec()
        self._seconds.observe(seconds)
        self._ok.inc()
        self._log_answer("answered", seconds=round(seconds, 6))

    async def _fail(self, error: BaseException, context: Context, started: float) -> None:
        seconds = time.perf_counter() - started
        self._in_flight.dec()
        self._seconds.observe(seconds)
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            REQUESTS.labels(*self._labels, "CANCELLED").inc()
            return
        refusal = error if isinstance(error, SirdarError) else fault_of_ours(self._method, error)
        REQUESTS.labels(*self._labels, refusal.code.name).inc()
        log.info(
            "refused",
            method=self._method,
            code=refusal.code.name,
            reason=refusal.reason,
            message=refusal.message,
            seconds=round(seconds, 6),
        )
        status = to_status(refusal)
        trailers = [(STATUS_TRAILER, status.SerializeToString())]
        if refusal.retry_after is not None:
            milliseconds = max(1, round(refusal.retry_after.total_seconds() * 1000))
            trailers.append((PUSHBACK_TRAILER, str(milliseconds).encode()))
        # abort() replaces what set_trailing_metadata() gave.
        trailers.extend(context.trailing_metadata() or ())
        await context.abort(refusal.code, status.message, tuple(trailers))


def fault_of_ours(method: str, error: BaseException) -> Internal:
    """What the caller learns of it; the log has the rest."""
    log.error("fault", method=method, exc_info=error)
    return Internal(f"internal error, request id {request_id()}; the server's log has more")


def _tolerant(read: Callable[[bytes], Request]) -> Callable[[bytes], Request]:
    """Gives what cannot be read to the method's handler, which refuses it: grpc alone would
    answer INTERNAL without a word of why."""

    def deserialize(data: bytes) -> Request:
        try:
            return read(data)
        except DecodeError as error:
            return error

    return deserialize


def _check_readable(request: Request) -> None:
    if isinstance(request, DecodeError):
        raise InvalidArgument(
            "the request cannot be read: it is damaged, or a part of it, such as a filter, is "
            "nested deeper than any may be; flatten it",
            reason="UNREADABLE_REQUEST",
        )
