"""A proxy that the environment names is for the outer world: this machine needs none."""

from collections.abc import Iterator

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import open_channel as tier_channel
from sirdar.client import Client, Health
from sirdar.client.channel import options
from tests.rpc.search_double import Double, running_double


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose environment sends everything to a proxy that is not there."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_on_this_machine_is_reached_past_a_proxy(double: Double, proxied: None) -> None:
    with Client(double.address, timeout_seconds=5) as client:
        assert client.health() is Health.SERVING


async def test_a_tier_is_reached_past_a_proxy(double: Double, proxied: None) -> None:
    async with tier_channel(double.address, max_message_bytes=2**20) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("localhost:7700", False),
        ("127.0.0.2:1", False),
        ("[::1]:7700", False),
        ("unix:/tmp/socket", False),
        ("dns:///localhost:7700", False),
        ("search.example:7700", True),
        ("10.0.0.1:7700", True),
    ],
)
def test_only_what_is_not_on_this_machine_may_need_a_proxy(address: str, proxy: bool) -> None:
    assert (("grpc.enable_http_proxy", 0) in options(address, 2**20)) is not proxy
