"""The one gRPC server that the four tiers are built on."""

import asyncio
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import grpc
import structlog
import uvloop
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.runtime.drain import Drain
from services.runtime.handlers import Handlers
from services.runtime.server_tls import ServerTls
from services.runtime.settings import ServerSettings, load_settings
from services.runtime.telemetry import SERVING, MetricsServer, configure_logging
from sirdar.errors import FailedPrecondition, SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# The health service to ask whether to restart; "" and the tier's own are whether to send calls.
LIVENESS = "liveness"
_WATCH_SECONDS = 1.0
# How long threads may take to end when all is closed.
_THREADS_SECONDS = 2.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Beside(Protocol):
    """A server of the same process that speaks something else."""

    port: int

    async def stop(self, grace_seconds: float) -> None:
        """Takes nothing new, lets what runs finish in time, ends the rest. May be called twice."""


class TierServer:
    """A tier's server: health, reflection, channelz and the services that the tier registers.

    It listens from the start, so that health can be asked while models load
    and shards open; until then calls are refused with UNAVAILABLE.
    """

    def __init__(self, tier: str, settings: ServerSettings) -> None:
        self.tier = tier
        self.drain = Drain()
        # False from the moment that the server begins to stop.
        self.serving = False
        self.port = 0
        self._settings = settings
        self._services: list[str] = []
        # Other servers of the process, which stop in the same drain, side by side.
        self.beside: list[Beside] = []
        # Each says for how many seconds the work behind it has made no progress.
        self.stuck: list[Callable[[], float]] = []
        self._handlers = Handlers(tier)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=_server_options(settings), maximum_concurrent_rpcs=None
        )
        self._server.add_generic_rpc_handlers((self._handlers,))
        # Tells the health to who has no certificate.
        self._probed: grpc.aio.Server | None = None
        self.health_port = 0

    def register(
        self, add_to_server: Callable[[Any, Any], None], servicer: object, service: str
    ) -> None:
        """Adds a service by its generated `add_..._to_server` function and its full name."""
        add_to_server(servicer, self._handlers.services)
        self._services.append(service)

    async def start(self) -> None:
        """Listens. Raises FailedPrecondition when the port is taken."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._handlers.plumbing)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(
            channelz.aio.ChannelzServicer(), self._handlers.plumbing
        )
        await self._health.set("", _NOT_SERVING)
        SERVING.labels(self.tier).set(0)
        settings = self._settings
        tls = ServerTls.of(settings)
        self.port = _listen(
            self._server, settings.host, settings.port, "port", tls.credentials() if tls else None
        )
        if settings.health_port is not None:
            self._probed = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
            self.health_port = _listen(
                self._probed, settings.host, settings.health_port, "health_port", None
            )
            await self._probed.start()
        await self._server.start()

    async def set_serving(self) -> None:
        """Everything is loaded, opened and warm: calls are let in."""
        names = (*self._services, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names), self._handlers.plumbing
        )
        self._handlers.open = True
        for service in ("", *self._services):
            await self._health.set(service, _SERVING)
        SERVING.labels(self.tier).set(1)
        self.serving = True

    async def watch(self) -> None:
        """Lets health tell, as service `liveness`, whether work makes progress; for ever."""
        while True:
            try:
                seconds = max((stuck() for stuck in self.stuck), default=0.0)
            except Exception as error:
                log.error("progress cannot be told", exc_info=error)
                seconds = math.inf
            alive = seconds < self._settings.stuck_seconds
            if not alive:
                log.error("no progress; the process should be restarted", seconds=seconds)
            await self._health.set(LIVENESS, _SERVING if alive else _NOT_SERVING)
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        """Drains: NOT_SERVING, notice, end of streams, end of calls in flight, stop."""
        SERVING.labels(self.tier).set(0)
        self.serving = False
        self.drain.leaving.set()
        # Not `enter_graceful_shutdown`: a server that drains is alive.
        for service in ("", *self._services):
            await self._health.set(service, _NOT_SERVING)
        if self._handlers.open and not self.drain.draining:
            # Callers that never came, or were told before, need no time to notice.
            await asyncio.sleep(self._settings.drain_notice_seconds)
        self.drain.begin()
        grace_seconds = self._settings.drain_grace_seconds
        await asyncio.gather(
            self._server.stop(grace_seconds),
            *(beside.stop(grace_seconds) for beside in self.beside),
        )
        if self._probed is not None:
            # Last: who drains is asked whether it lives.
            await self._probed.stop(None)


def _listen(
    server: grpc.aio.Server,
    host: str,
    port: int,
    setting: str,
    credentials: grpc.ServerCredentials | None,
) -> int:
    """Adds a port and returns which it is. Raises FailedPrecondition when it is taken."""
    address = f"{host}:{port}"
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"cannot listen on {address}: the port is taken or the address is not of this "
            f"machine; free it or set {setting} to another",
            reason="PORT_TAKEN",
        ) from error


def _server_options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A taken port is refused instead of shared in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_seconds * 1000)),
        # Streams see ShuttingDown only on drain; on an aged connection they may run on.
        ("grpc.max_connection_age_grace_ms", 3_600_000),
        # Clients ping every 30 s, also while idle (channel.py).
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.enable_channelz", 1),
    ]


S = TypeVar("S", bound=ServerSettings)
Wire = Callable[[S, TierServer], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def serve(tier: str, settings: S, wire: Wire[S]) -> AsyncIterator[TierServer]:
    """A running tier: SERVING inside the block, drained and closed after it."""
    server = TierServer(tier, settings)
    await server.start()
    metrics = None
    watching = asyncio.create_task(server.watch())
    try:
        if settings.metrics_port is not None:
            metrics = MetricsServer(settings.host, settings.metrics_port)
        async with wire(settings, server):
            await server.set_serving()
            log.info("serving", address=f"{settings.host}:{server.port}")
            try:
                yield server
            finally:
                await server.stop()
    finally:
        watching.cancel()
        await server.stop()
        if metrics is not None:
            metrics.close()


def run(tier: str, settings_class: type[S], wire: Wire[S]) -> None:
    """Runs a tier until SIGTERM or SIGINT, then drains it. Exits with 1 when it cannot start."""
    try:
        settings = load_settings(settings_class)
    except SirdarError as error:
        sys.exit(f"{tier}: {error.message}")
    configure_logging(tier, settings)
    _keep_modules()
    try:
        uvloop.run(_run(tier, settings, wire))
    except SirdarError as error:
        log.error("cannot run", reason=error.reason, message=error.message)
        _exit(1)
    _exit(0)


def _keep_modules() -> None:
    """What was imported stays: the garbage collector looks through it no more.

    A full collection did, with every call waiting, whenever enough had come and gone: 50 ms for
    a retriever's 83,000 objects, 90 ms for a gateway's 125,000. What a server opens or loads
    later may go again, and is still looked through.
    """
    gc.collect()
    gc.freeze()


def _exit(code: int) -> None:
    """Ends the process, also when a thread hangs: the interpreter would wait for it for ever."""
    until = time.monotonic() + _THREADS_SECONDS
    others = [one for one in threading.enumerate() if one is not threading.main_thread()]
    for thread in others:
        if not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    hung = [thread.name for thread in others if thread.is_alive() and not thread.daemon]
    if not hung:
        sys.exit(code)
    log.warning("left threads behind that do not end", threads=hung)
    sys.stdout.flush()
    os._exit(code)


async def _run(tier: str, settings: S, wire: Wire[S]) -> None:
    stopping = asyncio.Event()
    serving = False

    def stop() -> None:
        if not serving:
            # A model that loads in a thread cannot be interrupted, and nobody is served.
            log.info("stopped while starting")
            os._exit(0)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with serve(tier, settings, wire):
        serving = True
        await stopping.wait()
        log.info("draining")
    log.info("stopped")
