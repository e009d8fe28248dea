"""Several embedders behind one address: those are asked that are SERVING."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.runtime.server import TierServer, serve
from services.runtime.settings import ServerSettings
from sirdar.client import AsyncClient
from sirdar.errors import Cancelled
from tests.rpc.failing_tiers import FailingEmbedder, add_embedder, gateway_over, running, until


class Starting:
    """An embedder that listens, and serves only when it is told to."""

    def __init__(self) -> None:
        self.double = FailingEmbedder()
        self.may_serve = asyncio.Event()
        self.listens = asyncio.Event()
        self.ends = asyncio.Event()
        self.address = ""

    async def run(self) -> None:
        async with serve("embedder", ServerSettings(), self._wire):
            await self.ends.wait()

    @asynccontextmanager
    async def _wire(self, settings: ServerSettings, server: TierServer) -> AsyncIterator[None]:
        server.register(add_embedder, self.double, "sirdar.v1.EmbedderService")
        self.address = f"127.0.0.1:{server.port}"
        self.listens.set()
        await self.may_serve.wait()
        yield


@asynccontextmanager
async def starting() -> AsyncIterator[Starting]:
    one = Starting()
    task = asyncio.create_task(one.run())
    try:
        await one.listens.wait()
        yield one
    finally:
        one.may_serve.set()
        one.ends.set()
        await task


async def test_one_that_starts_or_drains_is_passed_over() -> None:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(starting()) for _ in range(2)]
        first.may_serve.set()
        tiers = await stack.enter_async_context(running())
        gateway = gateway_over(
            retriever_addresses=tuple(tiers.addresses),
            embedder_address=f"ipv4:///{first.address},{second.address}",
            rerank_enabled=False,
        )
        address = await stack.enter_async_context(gateway)
        client = await stack.enter_async_context(AsyncClient(address))
        for _ in range(30):
            await client.search("notes", "q")
        assert second.double.calls == 0
        second.may_serve.set()

        async def second_is_asked() -> bool:
            await client.search("notes", "q")
            return second.double.calls > 0

        await until(second_is_asked)
        before = second.double.calls
        first.ends.set()
        for _ in range(60):
            await client.search("notes", "q")
        assert second.double.calls - before >= 30


async def test_a_call_that_a_stopping_tier_ended_is_no_callers_own() -> None:
    async with running() as tiers:
        tiers.embedder.failures = [Cancelled("the server stops")]
        assert await tiers.searched()
        tiers.embedder.failures = [Cancelled("the server stops")] * 100
        assert (await tiers.refused()).reason == "EMBEDDER_UNREACHABLE"
