"""The connection of the asyncio client: its channels, and how calls are run on them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sirdar.client.call import Call, Page
from sirdar.client.channel import Tls, open_aio_channel, open_channel
from sirdar.client.health import Health, health_of
from sirdar.errors import FailedPrecondition, from_rpc_error
from sirdar.v1.search_pb2_grpc import SearchServiceStub

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
T = TypeVar("T")


class Connection:
    """`timeout_seconds` is what a call gets that has no time of its own. Once it is closed each
    method raises FailedPrecondition."""

    def __init__(
        self, address: str, timeout_seconds: float, tls: Tls | None, max_message_bytes: int
    ) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._max_message_bytes = max_message_bytes
        self._channel = open_aio_channel(address, tls, max_message_bytes)
        self._stream_channel: grpc.Channel | None = None
        # One stub class serves both kinds of channels; grpc's types know only of blocking ones.
        self._stub = SearchServiceStub(cast(grpc.Channel, self._channel))
        self._closed = False

    async def close(self) -> None:
        """Ends the calls in flight, too."""
        self._closed = True
        await self._channel.close()
        if self._stream_channel is not None:
            self._stream_channel.close()

    def stream_stub(self) -> SearchServiceStub:
        """A stub for streams both ways, which are not carried by grpc.aio (see MessageStream)."""
        self._check_open()
        if self._stream_channel is None:
            self._stream_channel = open_channel(self._address, self._tls, self._max_message_bytes)
        return SearchServiceStub(self._stream_channel)

    async def run(self, call: Call[RequestT, AnswerT, T], timeout_seconds: float | None) -> T:
        """Raises errors of `sirdar.errors`."""
        self._check_open()
        method = cast(
            "grpc.aio.UnaryUnaryMultiCallable[RequestT, AnswerT]", call.method(self._stub)
        )
        try:
            answer = await method(call.request, timeout=self._seconds(timeout_seconds))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return call.read(answer)

    async def health(self, service: str, timeout_seconds: float | None) -> Health:
        self._check_open()
        check = health_pb2_grpc.HealthStub(self._channel).Check
        try:
            return health_of(
                await check(
                    health_pb2.HealthCheckRequest(service=service),
                    timeout=self._seconds(timeout_seconds),
                )
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def _seconds(self, given: float | None) -> float:
        return self._timeout_seconds if given is None else given

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("the client is closed; open a new one")


async def pages(page: Callable[[str], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    """The items of a list; `page` takes the token of each of its pages."""
    token = ""
    while True:
        part = await page(token)
        for item in part.items:
            yield item
        if not part.next_token:
            return
        token = part.next_token
