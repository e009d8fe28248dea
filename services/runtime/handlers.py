"""The methods that a server answers, which may be added while it listens."""

from collections.abc import Sequence
from typing import Any

import grpc

from services.runtime.interceptors import Handler, MethodInterceptor
from sirdar.errors import STATUS_TRAILER, Unavailable, to_status


class HandlerRegistry:
    """Takes what a generated `add_..._to_server` function gives to a grpc server."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Newer stubs give each method twice; the generic handlers are enough."""

    def find(self, details: grpc.HandlerCallDetails) -> Handler | None:
        for handler in self._handlers:
            found = handler.service(details)
            if found is not None:
                return found
        return None


class Handlers(grpc.GenericRpcHandler):
    """All methods of one server.

    `plumbing` (health, reflection, channelz) answers always and bare; the
    tier's own `services` answer once `open`, inside the interceptors.
    """

    def __init__(self, tier: str) -> None:
        self.open = False
        self.plumbing = HandlerRegistry()
        self.services = HandlerRegistry()
        self._tier = tier
        self._wrapped: dict[str, Handler] = {}
        self._closed: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None and self.open:
            return known
        bare = self.plumbing.find(handler_call_details)
        if bare is not None:
            return bare
        if not self.open:
            return self._closed
        found = self.services.find(handler_call_details)
        if found is None:
            return None
        self._wrapped[method] = MethodInterceptor(self._tier, method).wrap(found)
        return self._wrapped[method]

    async def _refuse(self, requests: Any, context: Any) -> None:
        error = Unavailable(f"the {self._tier} is starting; retry in a moment", reason="STARTING")
        trailers = ((STATUS_TRAILER, to_status(error).SerializeToString()),)
        await context.abort(error.code, error.message, trailers)
