"""Channels from one tier to another."""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc.aio import Channel

from services.runtime.renewed_channel import RenewedChannel
from services.runtime.watched_files import WatchedFiles
from sirdar.errors import FailedPrecondition

_IN_TURN: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
# Replicas are watched: one that starts, or drains, gets no calls while there is another.
_SERVING_IN_TURN = {**_IN_TURN, "healthCheckConfig": {"serviceName": ""}}


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to trust a server, and the client's own certificate where it wants one."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """By the files as they are now. Raises FailedPrecondition."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file and self.key_file:
                context.load_cert_chain(self.certificate_file, self.key_file)
            return grpc.ssl_channel_credentials(
                self.ca_file.read_bytes(),
                self.key_file.read_bytes() if self.key_file else None,
                self.certificate_file.read_bytes() if self.certificate_file else None,
            )
        except OSError as error:  # SSLError is one
            raise FailedPrecondition(
                f"cannot use the TLS files for calls to the tiers ({self.ca_file}, "
                f"{self.certificate_file}, {self.key_file}): {error}",
                reason="BAD_SETTINGS",
            ) from error


def open_channel(
    address: str, *, max_message_bytes: int, tls: ClientTls | None = None, watched: bool = False
) -> Channel:
    """A channel to a tier: to all replicas that the name resolves to, in turn; `watched`: to those
    that say that they are SERVING.

    gRPC tries nothing again but what never left: whoever calls knows what may
    run twice, and how often. Raises FailedPrecondition for files of TLS that
    cannot be used; when they are renewed it takes the new ones.
    """
    target = address if "://" in address or address.startswith("unix:") else f"dns:///{address}"
    options: list[tuple[str, int | str]] = [
        ("grpc.service_config", json.dumps(_SERVING_IN_TURN if watched else _IN_TURN)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A peer that vanished without closing is noticed within 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # gRPC's default backs off to two minutes: a restarted tier must be found at once.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # How long one attempt may take, handshakes included: a server may be far away or busy.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 500),
        # Nor are the failures of another channel of this process waited out.
        ("grpc.use_local_subchannel_pool", 1),
        # So is one with a new address: gRPC's default asks a name once in 30 s.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.enable_channelz", 1),
        # `http_proxy` is for the world outside: tiers reach each other directly.
        ("grpc.enable_http_proxy", 0),
    ]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    files = WatchedFiles(tls.ca_file, tls.certificate_file, tls.key_file)
    return RenewedChannel(
        lambda: grpc.aio.secure_channel(target, tls.credentials(), options=options), files
    )
