"""The channel to a gateway, sync or asyncio."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc

from sirdar.errors import InvalidArgument, SirdarError, Unavailable

MAX_MESSAGE_BYTES = 32 * 2**20
"""The default of the servers, too."""

_SERVICE = "sirdar.v1.SearchService"

# What may safely run twice. The streams are resumed by their sessions, which
# know what was answered; a repeated create or delete of a collection would
# report a conflict with itself.
_REPEATABLE = (
    "Search",
    "BatchSearch",
    "ComputeSimilarity",
    "GetDocument",
    "ListDocuments",
    "DeleteDocuments",
    "DeleteByFilter",
    "GetCollection",
    "ListCollections",
    "UpdateCollection",
)

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": _SERVICE, "method": method} for method in _REPEATABLE],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # On overload the server's pushback sets the delay, or forbids the retry.
                # CANCELLED is a server's that stops: the caller's own ends the call here.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
    # A server in trouble is not buried under retries: below half of the tokens there are none.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
}


# What gRPC says, by version, of a call for which it had no connection.
_NO_CONNECTION = re.compile("failed to connect|connections to all backends failing", re.IGNORECASE)


def never_sent(error: SirdarError) -> bool:
    """Whether the call surely did not reach a server, because nobody listened."""
    return isinstance(error, Unavailable) and bool(_NO_CONNECTION.search(error.message))


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the server: by `ca_file`, or by the roots that gRPC brings.

    `certificate_file` and `key_file`, both PEM, are the client's own where the
    server wants to know its callers.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises InvalidArgument where a file is missing or cannot be read."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise InvalidArgument(
                "tls: a client certificate needs both certificate_file and key_file"
            )
        return grpc.ssl_channel_credentials(
            _read("tls.ca_file", self.ca_file),
            _read("tls.key_file", self.key_file),
            _read("tls.certificate_file", self.certificate_file),
        )


def _read(field: str, file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidArgument.field(field, f"cannot be read: {error.strerror}: {file}") from error


def target(address: str) -> str:
    """The gRPC target of an address: all replicas that a name resolves to.

    Raises InvalidArgument for what is not `host:port` or a gRPC target.
    """
    if address.startswith(("unix:", "dns:", "ipv4:", "ipv6:", "xds:")):
        return address
    host, colon, port = address.rpartition(":")
    if "/" in address or not (colon and host and port.isascii() and port.isdigit()):
        raise InvalidArgument.field(
            "address", f"must be host:port, such as 127.0.0.1:7700, not {address!r}"
        )
    return f"dns:///{address}"


def _on_this_machine(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def options(address: str, max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Channel options; the message limit, in bytes, holds in both directions."""
    settings: list[tuple[str, int | str]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A peer that vanished without closing is noticed within 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # gRPC's default backs off to two minutes: a restarted server must be found at once.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # How long one attempt may take, handshakes included: a server may be far away or busy.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # Nor are the failures of another client of this process waited out.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _on_this_machine(address):
        # gRPC would ask the proxy of `http_proxy` for this machine, too.
        settings.append(("grpc.enable_http_proxy", 0))
    return settings


def open_channel(address: str, tls: Tls | None, max_message_bytes: int) -> grpc.Channel:
    """A channel for blocking calls; it connects with the first."""
    settings = options(address, max_message_bytes)
    if tls is None:
        return grpc.insecure_channel(target(address), settings)
    return grpc.secure_channel(target(address), tls.credentials(), settings)


def open_aio_channel(address: str, tls: Tls | None, max_message_bytes: int) -> grpc.aio.Channel:
    """The same for the event loop that runs."""
    settings = options(address, max_message_bytes)
    if tls is None:
        return grpc.aio.insecure_channel(target(address), settings)
    return grpc.aio.secure_channel(target(address), tls.credentials(), settings)
