"""What happens around every HTTP call: deadline, request id, metrics, logs, faults."""

import math
import re
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.problems import problem_response
from services.runtime.deadline import set_deadline
from services.runtime.interceptors import REQUEST_ID, begin_request
from sirdar.errors import InvalidArgument

TIMEOUT_SECONDS = "x-timeout-seconds"
GRPC_TIMEOUT = "grpc-timeout"

REQUESTS = Counter("sirdar_http_requests_total", "Calls answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "sirdar_http_request_seconds",
    "Time from a call's arrival to its last byte; for uploads, their whole life.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
REQUESTS_IN_FLIGHT = Gauge("sirdar_http_requests_in_flight", "Calls being served.")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Methods that are counted by name; a caller can invent others without end.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GRPC_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Calls:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # 499 stays where the caller left before an answer began.
        status = 499
        identity = begin_request(Headers(scope=scope).get(REQUEST_ID, ""))

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = identity
            await send(message)

        REQUESTS_IN_FLIGHT.inc()
        try:
            await self._call(scope, receive, answer)
        except Exception:
            # The application has answered with 500 already.
            log.exception("fault", method=scope["method"], path=scope["path"])
        finally:
            REQUESTS_IN_FLIGHT.dec()
            _count(scope, status, time.perf_counter() - started)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            set_deadline(_timeout_seconds(Headers(scope=scope)))
        except InvalidArgument as bad:
            set_deadline(None)
            await problem_response(bad)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_SECONDS.labels(method, route).observe(seconds)
    log.debug("answered", method=method, path=scope["path"], status=status, seconds=seconds)


def _timeout_seconds(headers: Headers) -> float | None:
    """How long the caller waits, by either header; None: it does not say."""
    if GRPC_TIMEOUT in headers:
        timeout = _GRPC_TIMEOUT.fullmatch(headers[GRPC_TIMEOUT])
        if timeout is None:
            raise InvalidArgument.field(GRPC_TIMEOUT, "must be digits and a unit, such as 500m")
        return int(timeout[1]) * _UNIT_SECONDS[timeout[2]]
    if TIMEOUT_SECONDS not in headers:
        return None
    try:
        seconds = float(headers[TIMEOUT_SECONDS])
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidArgument.field(TIMEOUT_SECONDS, "must be a positive number of seconds")
    return seconds
