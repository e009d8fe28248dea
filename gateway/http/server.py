"""uvicorn beside the gRPC server: the same process, event loop and drain."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from gateway.settings import GatewaySettings
from services.runtime.server_tls import ServerTls
from sirdar.errors import FailedPrecondition


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the process: one drain serves gRPC and HTTP."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application over HTTP, with TLS where the gRPC server has it."""

    def __init__(self, settings: GatewaySettings, app: ASGIApp) -> None:
        assert settings.http_port is not None
        tls = ServerTls.of(settings)
        self._address = (settings.host.strip("[]"), settings.http_port)
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._config.load()
        if tls is not None:
            self._config.ssl = tls.renewing_context()
        # Its word on every start and stop says nothing that ours does not.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._uvicorn = _Uvicorn(self._config)
        self._running: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listens. Raises FailedPrecondition when the port is taken."""
        host, port = self._address
        try:
            listening = socket.create_server(
                self._address, family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except OSError as error:
            raise FailedPrecondition(
                f"cannot serve HTTP on {host}:{port}: {error.strerror}; "
                "free the port or set http_port to another",
                reason="PORT_TAKEN",
            ) from error
        # Connections inherit it. asyncio sets it only where a socket names its protocol, and
        # head and body are two writes: without it each answer waits 40 ms for a delayed ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = int(listening.getsockname()[1])
        self._running = asyncio.create_task(self._uvicorn.serve([listening]))

    async def stop(self, grace_seconds: float) -> None:
        """Takes nothing new, lets what runs finish in time, ends the rest."""
        if self._running is None:
            return
        running, self._running = self._running, None
        # uvicorn says int, and waits by asyncio's clock.
        self._config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment]
        self._uvicorn.should_exit = True
        await running
