"""A server that is far away: a connection takes longer than the shortest wait for another try."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import open_channel as tier_channel
from sirdar.client import AsyncClient, Health
from tests.rpc.search_double import Double, running_double

# Each way of each connection; a handshake takes several.
DELAY_SECONDS = 0.3


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(2**16):
            await asyncio.sleep(DELAY_SECONDS)
            sink.write(data)
        sink.close()


@asynccontextmanager
async def far(address: str) -> AsyncIterator[str]:
    """The same server behind a long line; its address there."""
    host, _, port = address.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near_reader, near_writer = await asyncio.open_connection(host, int(port))
        for one in (forward(reader, near_writer), forward(near_reader, writer)):
            tasks.add(asyncio.create_task(one))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_tier_far_away_is_reached_by_the_first_call(double: Double) -> None:
    async with (
        far(double.address) as address,
        tier_channel(address, max_message_bytes=2**20) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_gateway_far_away_is_reached_by_the_first_call(double: Double) -> None:
    async with far(double.address) as address, AsyncClient(address, timeout_seconds=10) as client:
        assert await client.health() is Health.SERVING
