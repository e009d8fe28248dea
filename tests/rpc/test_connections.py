"""Connections that take long, or that others tried in vain."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import open_channel as tier_channel
from sirdar.client import AsyncClient, Health
from sirdar.client.channel import open_aio_channel
from tests.rpc.search_double import Double, running_double

# Each way of each connection, longer than the shortest wait for another try; a handshake takes
# several.
DELAY_SECONDS = 0.3


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


async def forward(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_seconds: float
) -> None:
    with suppress(ConnectionError):
        while data := await source.read(2**16):
            await asyncio.sleep(delay_seconds)
            sink.write(data)
        sink.close()


@asynccontextmanager
async def forwarding(address: str, delay_seconds: float, at: socket.socket) -> AsyncIterator[None]:
    """The same server at another address, each way so much later."""
    host, _, port = address.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near_reader, near_writer = await asyncio.open_connection(host, int(port))
        for source, sink in ((reader, near_writer), (near_reader, writer)):
            tasks.add(asyncio.create_task(forward(source, sink, delay_seconds)))

    server = await asyncio.start_server(connected, sock=at)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def free() -> Iterator[socket.socket]:
    """Bound, and refusing connections until it listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def address_of(bound: socket.socket) -> str:
    return f"127.0.0.1:{bound.getsockname()[1]}"


async def health_of(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    return int(answer.status)


async def test_a_tier_far_away_is_reached_by_the_first_call(
    double: Double, free: socket.socket
) -> None:
    async with (
        forwarding(double.address, DELAY_SECONDS, free),
        tier_channel(address_of(free), max_message_bytes=2**20) as channel,
    ):
        assert await health_of(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_a_gateway_far_away_is_reached_by_the_first_call(
    double: Double, free: socket.socket
) -> None:
    async with (
        forwarding(double.address, DELAY_SECONDS, free),
        AsyncClient(address_of(free), timeout_seconds=10) as client,
    ):
        assert await client.health() is Health.SERVING


async def fail(channel: grpc.aio.Channel) -> None:
    """Until the longest wait before another try."""
    until = asyncio.get_running_loop().time() + 1.5
    while asyncio.get_running_loop().time() < until:
        with pytest.raises(grpc.aio.AioRpcError):
            await health_of(channel)
        await asyncio.sleep(0.02)


async def test_a_tier_that_another_channel_missed_is_reached_by_the_first_call(
    double: Double, free: socket.socket
) -> None:
    address = address_of(free)
    async with (
        tier_channel(address, max_message_bytes=2**20) as other,
        tier_channel(address, max_message_bytes=2**20) as channel,
    ):
        await fail(other)
        async with forwarding(double.address, 0.0, free):
            assert await health_of(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_a_gateway_that_another_client_missed_is_reached_by_the_first_call(
    double: Double, free: socket.socket
) -> None:
    address = address_of(free)
    async with (
        open_aio_channel(address, None, 2**20) as other,
        open_aio_channel(address, None, 2**20) as channel,
    ):
        await fail(other)
        async with forwarding(double.address, 0.0, free):
            assert await health_of(channel) == health_pb2.HealthCheckResponse.SERVING
