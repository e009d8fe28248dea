"""Channels from one tier to another."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc.aio import Channel


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to trust a server, and the client's own certificate where it wants one."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.ca_file.read_bytes(),
            self.key_file.read_bytes() if self.key_file else None,
            self.certificate_file.read_bytes() if self.certificate_file else None,
        )


def open_channel(
    address: str,
    *,
    retry_methods: Sequence[str] = (),
    max_message_bytes: int,
    tls: ClientTls | None = None,
) -> Channel:
    """A channel to a tier: to all replicas that the name resolves to, in turn.

    `retry_methods` (`package.Service` or `package.Service/Method`) are tried
    again on UNAVAILABLE, at most three times in all and within gRPC's retry
    budget: name only what may safely run twice.
    """
    target = address if "://" in address or address.startswith("unix:") else f"dns:///{address}"
    options: list[tuple[str, int | str]] = [
        ("grpc.service_config", json.dumps(_service_config(retry_methods))),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A peer that vanished without closing is noticed within 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # gRPC's default backs off to two minutes: a restarted tier must be found at once.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_channelz", 1),
        # `http_proxy` is for the world outside: tiers reach each other directly.
        ("grpc.enable_http_proxy", 0),
    ]
    if tls is not None:
        return grpc.aio.secure_channel(target, tls.credentials(), options=options)
    return grpc.aio.insecure_channel(target, options=options)


def _service_config(retry_methods: Sequence[str]) -> dict[str, object]:
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retry_methods:
        names = [
            dict(zip(("service", "method"), name.split("/"), strict=False))
            for name in retry_methods
        ]
        config["methodConfig"] = [
            {
                "name": names,
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 10, "tokenRatio": 0.1}
    return config
