"""A channel that is opened anew when its certificates are renewed."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

import grpc
import structlog
from grpc.aio import Channel

from services.runtime.watched_files import WatchedFiles
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Between looks at the files.
_LOOK_SECONDS = 10.0
# Calls on the channel before may go on for so long; streams are then begun again.
_GRACE_SECONDS = 300.0


class RenewedChannel(Channel):
    """Stands where stubs want a channel. A channel keeps the certificates that it was opened
    with, and would be refused with them when they have expired."""

    def __init__(self, open_channel: Callable[[], Channel], files: WatchedFiles) -> None:
        self._open = open_channel
        self._files = files
        self._channel = open_channel()
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, *method: Any, **how: Any) -> Any:
        return _Method(self, "unary_unary", method, how)

    def unary_stream(self, *method: Any, **how: Any) -> Any:
        return _Method(self, "unary_stream", method, how)

    def stream_unary(self, *method: Any, **how: Any) -> Any:
        return _Method(self, "stream_unary", method, how)

    def stream_stream(self, *method: Any, **how: Any) -> Any:
        return _Method(self, "stream_stream", method, how)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def current(self) -> Channel:
        """Opened with the files as they are now, or were a few seconds ago."""
        now = time.monotonic()
        if now < self._look_at:
            return self._channel
        self._look_at = now + _LOOK_SECONDS
        if self._files.changed():
            try:
                renewed = self._open()
            except FailedPrecondition as error:
                log.error(
                    "renewed TLS files cannot be used; those before are kept",
                    message=error.message,
                )
                return self._channel
            closing = asyncio.ensure_future(self._channel.close(_GRACE_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._channel = renewed
        return self._channel


class _Method:
    """A method of a stub, on whatever channel is the current one."""

    def __init__(
        self, channel: RenewedChannel, kind: str, method: tuple[Any, ...], how: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._make: Callable[[Channel], Any] = lambda current: getattr(current, kind)(
            *method, **how
        )
        self._of = channel.current()
        self._call = self._make(self._of)

    def __call__(self, *request: Any, **how: Any) -> Any:
        current = self._channel.current()
        if current is not self._of:
            self._of, self._call = current, self._make(current)
        return self._call(*request, **how)
