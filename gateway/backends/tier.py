"""A tier behind one address, however many replicas the name stands for."""

from collections.abc import Mapping
from typing import Any

from gateway.backends.endpoint import Check, Endpoint, Method, Reply
from gateway.backends.replicas import Read, Replicas


class Tier:
    """Calls to a tier, held back while its circuit is open."""

    def __init__(self, endpoint: Endpoint, checks: Mapping[Method[Any], Check]) -> None:
        self.name = endpoint.tier
        self._endpoint = endpoint
        self._replicas = Replicas([endpoint])
        self._reads = {method: Read((method,), check) for method, check in checks.items()}

    async def close(self) -> None:
        await self._endpoint.channel.close()

    async def serving(self, limit_seconds: float) -> bool:
        """Whether the tier can be reached and says that it is SERVING."""
        return await self._endpoint.serving(limit_seconds)

    async def call(self, method: Method[Reply], request: Any, limit_seconds: float) -> Reply:
        """Calls with the time that is left, at most the limit; tried again while the tier is
        away, at most twice. Raises the errors of `Endpoint.call`."""
        read = self._reads.get(method)
        if read is None:
            read = self._reads[method] = Read((method,), None)
        return await self._replicas.call(read, request, limit_seconds)

    async def call_once(self, method: Method[Reply], request: Any, limit_seconds: float) -> Reply:
        """As `call`, but for callers that have a patience of their own."""
        if not self._endpoint.breaker.lets_through():
            raise self._endpoint.refusal()
        read = self._reads.get(method)
        return await self._endpoint.call(
            method, request, limit_seconds, read.check if read else None
        )
