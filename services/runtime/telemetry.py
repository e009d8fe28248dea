"""Logs and metrics of a server."""

import logging
import sys
from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from services.runtime.settings import ServerSettings
from sirdar.errors import FailedPrecondition

REQUESTS = Counter(
    "sirdar_grpc_requests_total", "Calls answered.", ["tier", "service", "method", "code"]
)
REQUEST_SECONDS = Histogram(
    "sirdar_grpc_request_seconds",
    "Time from a call's arrival to its last byte; for streams, their whole life.",
    ["tier", "service", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
REQUESTS_IN_FLIGHT = Gauge(
    "sirdar_grpc_requests_in_flight", "Calls being served.", ["tier", "service", "method"]
)
SERVING = Gauge("sirdar_serving", "1 while the tier is SERVING.", ["tier"])


def configure_logging(tier: str, settings: ServerSettings) -> None:
    """Structured lines on standard error, each with the tier and, in a call, its request id."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.log_level.upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(tier=tier)


class MetricsServer:
    """Serves /metrics of the process's registry over HTTP, from a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        try:
            server, thread = start_http_server(port, host)
        except OSError as error:
            raise FailedPrecondition(
                f"cannot serve metrics on {host}:{port}: {error.strerror}; "
                "free the port or set metrics_port to another",
                reason="PORT_TAKEN",
            ) from error
        self._server: WSGIServer = server
        self._thread: Thread = thread
        self.port: int = server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
