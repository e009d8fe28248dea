"""Whether a server takes calls, by the health protocol of gRPC."""

from enum import Enum

from grpc_health.v1 import health_pb2


class Health(Enum):
    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNKNOWN = "unknown"


def health_of(answer: health_pb2.HealthCheckResponse) -> Health:
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Health.SERVING
    if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
        return Health.NOT_SERVING
    return Health.UNKNOWN
