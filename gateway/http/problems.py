"""Errors as problem details (RFC 9457), with the reasons that gRPC callers see."""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus

import grpc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.runtime.interceptors import request_id
from sirdar.errors import Cancelled, Internal, SirdarError

MEDIA_TYPE = "application/problem+json"

_CLIENT_CLOSED_REQUEST = 499
# As google/rpc/code.proto gives them.
_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: _CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}


class UnsupportedMediaType(HTTPException):
    def __init__(self, given: str, accepted: str) -> None:
        super().__init__(
            415, f"the body is {given or 'of no content type'}; send Content-Type: {accepted}"
        )


class ContentTooLarge(HTTPException):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            413, f"the body has more than {limit_bytes} bytes; send less, or stream it as NDJSON"
        )


def http_status(error: SirdarError) -> int:
    return _STATUS[error.code]


def retry_headers(error: SirdarError) -> dict[str, str]:
    """`Retry-After` in whole seconds, where the error says when to retry."""
    if error.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after.total_seconds())))}


def problem_value(error: SirdarError) -> dict[str, object]:
    """The problem's members; `reason` and `fields` are gRPC's."""
    status = http_status(error)
    value: dict[str, object] = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": error.message,
        "code": error.code.name,
        "reason": error.reason,
        "request_id": request_id(),
    }
    if error.fields:
        value["fields"] = [
            {"field": each.field, "description": each.description} for each in error.fields
        ]
    if error.metadata:
        value["metadata"] = error.metadata
    if error.retry_after is not None:
        value["retry_after_seconds"] = error.retry_after.total_seconds()
    return value


def problem_response(error: SirdarError, **members: object) -> Response:
    """`members` are added to the problem's."""
    value = {**problem_value(error), **members}
    return _response(value, http_status(error), retry_headers(error))


async def answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SirdarError)
    return problem_response(error)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What HTTP itself has to refuse: no such path, method or content type."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    value: dict[str, object] = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": error.detail,
        "reason": HTTPStatus(status).name,
        "request_id": request_id(),
    }
    return _response(value, status, dict(error.headers or {}))


async def answer_left(request: Request, error: Exception) -> Response:
    """Nobody reads this; it is what is counted."""
    return problem_response(Cancelled("the caller left before the end of its request"))


async def answer_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: the caller learns that much, the log the rest."""
    message = f"internal error, request id {request_id()}; the server's log has more"
    return problem_response(Internal(message))


def _title(status: int) -> str:
    if status == _CLIENT_CLOSED_REQUEST:
        return "Client Closed Request"
    return HTTPStatus(status).phrase


def _response(value: dict[str, object], status: int, headers: dict[str, str]) -> Response:
    # ASCII: a message may quote a lone surrogate of the caller's.
    return Response(json.dumps(value), status, headers, MEDIA_TYPE)
