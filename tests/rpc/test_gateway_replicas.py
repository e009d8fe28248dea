"""Several retrievers that serve one store: the first writes, all are read."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.settings import GatewaySettings
from sirdar.client import AsyncClient, Consistency, Document, Health
from sirdar.errors import DeadlineExceeded, FailedPrecondition, NotFound, SirdarError, Unavailable
from tests.rpc.failing_tiers import (
    Tiers,
    calls_in_flight,
    gateway_over,
    metric,
    running,
    serving_embedder,
    until,
)

FOUND = ["b", "a", "c"]


def searches(tiers: Tiers) -> list[int]:
    return [len(double.searches) for double in tiers.retrievers]


async def test_reads_are_shared_and_writes_are_the_firsts() -> None:
    async with running(retrievers=2, rerank_enabled=False) as tiers:
        for _ in range(4):
            await asyncio.gather(*(tiers.searched() for _ in range(20)))
        await asyncio.gather(*(tiers.client.get_document("notes", "a") for _ in range(40)))
        async for outcome in tiers.client.index("notes", [Document(id="a", text="text")]):
            assert outcome.ok
        first, second = tiers.retrievers
        assert min(searches(tiers)) >= 15
        assert min(double.reads.count("GetDocument") for double in tiers.retrievers) >= 5
        assert len(first.writes) == 1 and second.writes == []


async def test_what_fails_is_asked_of_the_other_at_once() -> None:
    async with running(retrievers=2) as tiers:
        tiers.retrievers[1].failures = [Unavailable("away")] * 1000
        results = await asyncio.gather(*(tiers.searched() for _ in range(100)))
        assert all(found == FOUND for found in results)
        # Five failures in a row, those that were on their way by then, and a probe at times.
        left_alone = len(tiers.retrievers[1].searches)
        for _ in range(20):
            assert await tiers.searched() == FOUND
        assert len(tiers.retrievers[1].searches) <= left_alone + 3


async def test_nonsense_of_one_is_asked_of_the_other() -> None:
    async with running(retrievers=2) as tiers:
        tiers.retrievers[1].spoil = lambda response: response.ClearField("results")
        for _ in range(20):
            assert await tiers.searched() == FOUND


@pytest.mark.parametrize(
    "refusal",
    [
        NotFound("no collection notes"),
        FailedPrecondition("another space"),
        DeadlineExceeded("applied 3 of 4 writes", reason="NOT_APPLIED_YET"),
    ],
)
async def test_what_a_replica_does_not_know_yet_the_writer_does(refusal: Exception) -> None:
    async with running(retrievers=2) as tiers:
        tiers.retrievers[1].failures = [refusal] * 1000
        for _ in range(20):
            assert await tiers.searched() == FOUND
        assert len(tiers.retrievers[1].searches) > 0


async def test_what_the_writer_refuses_is_refused() -> None:
    async with running(retrievers=2) as tiers:
        with pytest.raises(NotFound):
            await tiers.client.search("other", "q")


async def test_an_answer_without_all_shards_is_asked_of_the_other() -> None:
    async with running(retrievers=2) as tiers:
        partial = tiers.retrievers[1].coverage
        partial.shards_answered = 1
        partial.missing_shards.append(1)
        for _ in range(20):
            found = await tiers.client.search("notes", "q", require_complete=True)
            assert found.coverage.complete
        assert len(tiers.retrievers[1].searches) > 0


async def test_a_strong_read_is_the_writers_while_it_is_there() -> None:
    async with running(retrievers=2) as tiers:
        for _ in range(20):
            await tiers.searched(consistency=Consistency.STRONG)
        assert searches(tiers) == [20, 0]
        tiers.retriever.failures = [Unavailable("away")] * 1000
        for _ in range(10):
            assert await tiers.searched(consistency=Consistency.STRONG) == FOUND


async def test_a_slow_search_is_asked_of_the_other_and_the_loser_cancelled() -> None:
    async with running(retrievers=2, rerank_enabled=False) as tiers:
        for _ in range(40):
            await tiers.searched()
        won = metric("hedges_total", outcome="won")
        slow = tiers.retrievers[0]
        slow.delay_seconds = 60

        async def hedge_won() -> bool:
            assert await tiers.searched() == FOUND
            return metric("hedges_total", outcome="won") > won

        await until(hedge_won)
        await until(lambda: slow.cancelled > 0 and calls_in_flight() == 0)


async def test_hedges_are_a_twentieth_of_the_searches() -> None:
    async with running(retrievers=2, rerank_enabled=False) as tiers:
        for double in tiers.retrievers:
            double.delay_seconds = 0.001
        sent = metric("hedges_total", outcome="sent")
        for at in range(400):
            # Every fifth is slower than nearly all, wherever it is asked.
            for double in tiers.retrievers:
                double.delay_seconds = 0.006 if at % 5 == 0 else 0.0
            await tiers.searched()
        assert metric("hedges_total", outcome="sent") - sent <= 400 * 0.05 + 5


async def test_who_cancels_everything_leaves_no_work_on_any_replica() -> None:
    async with running(retrievers=2) as tiers:
        for _ in range(30):
            await tiers.searched()
        for double in tiers.retrievers:
            double.delay_seconds = 60
        running_searches = [asyncio.create_task(tiers.searched()) for _ in range(50)]
        await until(lambda: calls_in_flight() >= 50)
        for search in running_searches:
            search.cancel()
        await until(lambda: calls_in_flight() == 0)
        await until(lambda: sum(double.working for double in tiers.retrievers) == 0)


def test_no_retriever_and_one_named_twice_are_refused() -> None:
    for addresses in ((), ("a:1", "a:1")):
        with pytest.raises(ValueError, match="retriever_addresses"):
            GatewaySettings(retriever_addresses=addresses)


@dataclass
class Load:
    """Searches of several callers, one after the other each, until the block ends."""

    client: AsyncClient
    answered: int = 0
    failed: list[Exception] = field(default_factory=list)

    async def search(self) -> None:
        while True:
            try:
                assert await self.client.search("notes", "q")
                self.answered += 1
            except SirdarError as error:
                self.failed.append(error)

    async def more(self, count: int) -> None:
        """Waits until so many more are answered."""
        wanted = self.answered + count
        await until(lambda: self.answered >= wanted)

    @asynccontextmanager
    async def going_on(self, callers: int) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.search()) for _ in range(callers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def replica(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.rpc.replica_process", str(port)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("which", ["writer", "reader"])
async def test_no_search_fails_when_a_replica_dies_or_hangs_under_load(
    which: str, how: signal.Signals
) -> None:
    ports = [free_port(), free_port()]
    addresses = tuple(f"127.0.0.1:{port}" for port in ports)
    lost = 0 if which == "writer" else 1
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(replica(port)) for port in ports]
        # A gateway that found nobody would look again in half a second.
        await until(all_serve(addresses))
        embedder = await stack.enter_async_context(serving_embedder())
        gateway = await stack.enter_async_context(
            gateway_over(
                retriever_addresses=addresses, embedder_address=embedder, log_level="error"
            )
        )
        client = await stack.enter_async_context(AsyncClient(gateway))
        load = Load(client)
        async with load.going_on(callers=16):
            await load.more(200)
            processes[lost].send_signal(how)
            await load.more(400)
            if how is signal.SIGSTOP:
                processes[lost].send_signal(signal.SIGCONT)
            else:
                await processes[lost].wait()
                await stack.enter_async_context(replica(ports[lost]))
            await load.more(400)
            await until(lambda: not is_open(addresses[lost]))
        assert load.failed == []


def all_serve(addresses: tuple[str, ...]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        for address in addresses:
            async with AsyncClient(address) as client:
                try:
                    if await client.health() is not Health.SERVING:
                        return False
                except Unavailable:
                    return False
        return True

    return ask


def is_open(address: str) -> bool:
    return metric("tier_circuit_open", tier="retriever", address=address) == 1
