"""The one error tree of Sirdar, raised by the tiers and, from their statuses, by the client.

    SirdarError
    ├── InvalidArgument      a field of the request is wrong; `fields` says which and why
    ├── NotFound             no such collection, document or model
    ├── AlreadyExists        the name is taken
    ├── FailedPrecondition   the request is fine, the state of the system is not
    ├── Aborted              the document's version is another than the one asked for
    ├── ResourceExhausted    overload, and `retry_after` says when to retry, or a full disk
    ├── Unavailable          a tier that is needed is down, opening or draining
    ├── DeadlineExceeded     the time was up
    ├── Cancelled            the caller gave up
    ├── Unauthenticated      no or bad credentials
    ├── PermissionDenied     good credentials, but not for this
    ├── Unimplemented        this server does not do that
    ├── DataLoss             stored data is damaged
    └── Internal             a fault of ours

On the wire an error is a `google.rpc.Status` with `ErrorInfo` (reason, domain
`sirdar`), `BadRequest` where fields are wrong and `RetryInfo` on overload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "sirdar"
STATUS_TRAILER = "grpc-status-details-bin"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, as a path such as `documents[3].id`, and what is wrong with it."""

    field: str
    description: str


class SirdarError(Exception):
    """Base of the tree.

    `reason` is a stable UPPER_SNAKE_CASE word for programs, the message a
    sentence for people that says what to do.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        fields: Sequence[FieldViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.fields = tuple(fields)


class InvalidArgument(SirdarError):
    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    @classmethod
    def field(cls, field: str, description: str, *, reason: str = "") -> "InvalidArgument":
        """One wrong field; `description` continues the field's name: "must not be empty"."""
        violation = FieldViolation(field, description)
        return cls(f"{field} {description}", reason=reason, fields=[violation])


class NotFound(SirdarError):
    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(SirdarError):
    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(SirdarError):
    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class Aborted(SirdarError):
    code = grpc.StatusCode.ABORTED
    default_reason = "VERSION_MISMATCH"


class ResourceExhausted(SirdarError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "OVERLOADED"


class Unavailable(SirdarError):
    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(SirdarError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(SirdarError):
    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"


class Unauthenticated(SirdarError):
    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(SirdarError):
    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class Unimplemented(SirdarError):
    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class DataLoss(SirdarError):
    code = grpc.StatusCode.DATA_LOSS
    default_reason = "DATA_LOSS"


class Internal(SirdarError):
    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


_BY_CODE: dict[int, type[SirdarError]] = {
    error.code.value[0]: error for error in SirdarError.__subclasses__()
}
# A server that was built before a code was added, or a proxy, may answer these.
_BY_CODE[grpc.StatusCode.OUT_OF_RANGE.value[0]] = InvalidArgument


def _short(text: str, limit_bytes: int) -> str:
    """The text, cut where it is longer in UTF-8."""
    data = text.encode()
    if len(data) <= limit_bytes:
        return text
    return data[:limit_bytes].decode(errors="ignore") + " ..."


def to_status(error: SirdarError) -> status_pb2.Status:
    """The error as it travels: short enough for trailers, whatever it repeats of a request.

    gRPC drops calls with trailers over 8 to 16 KB. A message is in them twice,
    once with three bytes for each byte beyond ASCII.
    """
    status = status_pb2.Status(code=error.code.value[0], message=_short(error.message, 1024))
    metadata = {key: _short(value, 256) for key, value in error.metadata.items()}
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    )
    if error.fields:
        bad = error_details_pb2.BadRequest()
        for violation in error.fields[:8]:
            bad.field_violations.add(
                field=_short(violation.field, 256),
                description=_short(violation.description, 256),
            )
        status.details.add().Pack(bad)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> SirdarError:
    """The error that a status stands for; the inverse of `to_status`."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after: timedelta | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta()
    return _BY_CODE.get(status.code, SirdarError)(
        status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after=retry_after,
        fields=[FieldViolation(item.field, item.description) for item in bad.field_violations],
    )


def from_rpc_error(error: grpc.RpcError) -> SirdarError:
    """The error that a failed call stands for, with details where the server sent them.

    Faults of the transport (nobody listens, the connection broke) have no
    details and come out as the class of their code.
    """
    # Every RpcError that a call raises is a Call too; grpc's types do not say so.
    code = error.code() if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)) else None
    if code is None:
        return SirdarError(str(error))
    assert isinstance(error, (grpc.Call, grpc.aio.AioRpcError))
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_TRAILER and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    message = error.details() or code.name.lower().replace("_", " ")
    return _BY_CODE.get(code.value[0], SirdarError)(message)
