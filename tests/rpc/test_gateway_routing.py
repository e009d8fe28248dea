"""Searches over retrievers that announce what they have: whom the gateway asks for which shards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sirdar.client import Document
from sirdar.errors import Unavailable
from sirdar.v1 import retriever_pb2
from tests.rpc.failing_tiers import FailingRetriever, Tiers, metric, running, until

READY = retriever_pb2.SHARD_STATE_READY
LOADING = retriever_pb2.SHARD_STATE_OPENING
DRAINING = retriever_pb2.SHARD_STATE_DRAINING
EVERYTHING = ["d0", "d1", "d2", "d3"]


def having(*shards: int) -> dict[int, Any]:
    return dict.fromkeys(shards, READY)


@asynccontextmanager
async def cluster(
    *announced: dict[int, Any] | None, absent: Sequence[str] = ()
) -> AsyncIterator[Tiers]:
    """Once the gateway has heard all that announce."""
    async with running(
        announced=announced, retrievers=len(announced), absent=absent, rerank_enabled=False
    ) as tiers:
        heard = [double for double in tiers.retrievers if double.announced is not None]
        await until(lambda: all(double.watched for double in heard))
        await routed(tiers, lambda: True)
        for double in tiers.retrievers:
            double.searches.clear()
        yield tiers


async def routed(tiers: Tiers, as_wanted: Callable[[], bool]) -> None:
    """Searches until ten in a row were routed as they should be: news take a moment."""

    async def settled() -> bool:
        for double in tiers.retrievers:
            double.searches.clear()
        for _ in range(10):
            await tiers.searched()
            if not as_wanted():
                return False
        return True

    await until(settled)


def asked(double: FailingRetriever) -> set[int]:
    return {shard for request in double.searches for shard in request.shards}


async def change(double: FailingRetriever, announced: dict[int, Any]) -> None:
    double.announced = announced
    double.news.set()


async def test_each_is_asked_for_what_it_has_and_the_best_of_all_are_answered() -> None:
    async with cluster(having(0, 3), having(1), having(2)) as tiers:
        for _ in range(5):
            assert await tiers.searched() == EVERYTHING
            found = await tiers.client.search("notes", "q", require_complete=True)
            assert found.coverage.complete
            assert found.coverage.shards_asked == 4
        assert [asked(double) for double in tiers.retrievers] == [{0, 3}, {1}, {2}]


async def test_who_has_everything_is_asked_for_everything_at_once() -> None:
    async with cluster(having(0, 1, 2, 3), having(0, 1, 2, 3)) as tiers:
        for _ in range(20):
            assert await tiers.searched() == EVERYTHING
        for double in tiers.retrievers:
            assert len(double.searches) > 0
            assert not any(request.shards for request in double.searches)


async def test_replicas_of_a_shard_share_its_searches() -> None:
    async with cluster(having(0, 1), having(1, 2), having(2, 3), having(3, 0)) as tiers:
        await asyncio.gather(*(tiers.searched() for _ in range(60)))
        for number, double in enumerate(tiers.retrievers):
            assert asked(double) == {number, (number + 1) % 4}


async def test_retrievers_that_are_still_to_come_cost_no_call_a_try() -> None:
    absent = [f"127.0.0.1:{port}" for port in (1, 2, 3, 4)]
    async with cluster(having(0, 1, 2, 3), having(0, 1, 2, 3), absent=absent) as tiers:
        await until(lambda: _reads_without_a_failure(tiers, absent))
        for double in tiers.retrievers:
            await change(double, {})
        # Of what nobody announces those are asked that are there.
        await until(lambda: _reads_without_a_failure(tiers, absent))


async def _reads_without_a_failure(tiers: Tiers, absent: Sequence[str]) -> bool:
    before = _failures(absent)
    for _ in range(40):
        await tiers.searched()
        await tiers.client.get_document("notes", "d0")
    return _failures(absent) == before


def _failures(addresses: Sequence[str]) -> float:
    return sum(
        metric(
            "tier_failures_total", tier="retriever", address=each, reason="RETRIEVER_UNREACHABLE"
        )
        for each in addresses
    )


async def test_what_one_fails_to_answer_is_asked_of_another_that_has_it() -> None:
    async with cluster(having(0, 1), having(0, 1), having(2, 3), having(2, 3)) as tiers:
        tiers.retrievers[1].failures = [Unavailable("away")] * 1000
        tiers.retrievers[2].failures = [Unavailable("away")] * 1000
        for _ in range(30):
            found = await tiers.client.search("notes", "q", require_complete=True)
            assert [item.document_id for item in found] == EVERYTHING
        # Left alone by then, but for a probe now and then.
        before = len(tiers.retrievers[1].searches)
        assert before < 20
        tiers.retrievers[1].failures = []
        await until(lambda: _more_searches(tiers, tiers.retrievers[1], before + 10))


async def _more_searches(tiers: Tiers, double: FailingRetriever, count: int) -> bool:
    await tiers.searched()
    return len(double.searches) > count


async def test_a_shard_that_nobody_answers_for_is_missing_and_said_to_be() -> None:
    async with cluster(having(0, 1), having(2, 3)) as tiers:
        tiers.retrievers[1].failures = [Unavailable("away")] * 1000
        found = await tiers.client.search("notes", "q")
        assert [item.document_id for item in found] == ["d0", "d1"]
        assert not found.coverage.complete
        assert (found.coverage.shards_asked, found.coverage.shards_answered) == (4, 2)
        assert list(found.coverage.missing_shards) == [2, 3]
        with pytest.raises(Unavailable) as refused:
            await tiers.client.search("notes", "q", require_complete=True)
        assert refused.value.reason == "INCOMPLETE"
        tiers.retrievers[0].failures = [Unavailable("away")] * 1000
        with pytest.raises(Unavailable):
            await tiers.client.search("notes", "q")


@pytest.mark.parametrize("state", [LOADING, DRAINING])
async def test_who_loads_or_drains_is_left_to_the_ready(state: Any) -> None:
    async with cluster(having(0, 1, 2, 3), having(0, 1, 2, 3)) as tiers:
        one, other = tiers.retrievers
        await change(other, dict.fromkeys(range(4), state))
        await routed(tiers, lambda: len(other.searches) == 0)
        await change(one, dict.fromkeys(range(4), DRAINING))
        await change(other, having(0, 1, 2, 3))
        await routed(tiers, lambda: len(one.searches) == 0)
        assert await tiers.searched() == EVERYTHING


async def test_a_shard_that_moves_is_asked_of_where_it_is() -> None:
    async with cluster(having(0, 1, 2, 3), having()) as tiers:
        one, other = tiers.retrievers
        await change(other, having(2, 3))
        await change(one, {**having(0, 1), 2: DRAINING, 3: DRAINING})
        await routed(tiers, lambda: asked(one) == {0, 1} and asked(other) == {2, 3})
        assert await tiers.searched() == EVERYTHING


async def test_what_the_gateway_has_not_heard_of_yet_is_found_all_the_same() -> None:
    async with cluster(having(0, 1), having(2, 3)) as tiers:
        # Moved, and not said yet.
        tiers.retrievers[0].announced = having(0, 2)
        tiers.retrievers[1].announced = having(1, 3)
        for _ in range(5):
            found = await tiers.client.search("notes", "q", require_complete=True)
            assert [item.document_id for item in found] == EVERYTHING


async def test_one_that_is_older_has_everything() -> None:
    async with cluster(having(0, 1, 2, 3), None) as tiers:
        newer, older = tiers.retrievers
        await asyncio.gather(*(tiers.searched() for _ in range(40)))
        assert len(newer.searches) > 0
        assert len(older.searches) > 0


@pytest.mark.parametrize("writing", [(1,), (0, 1)])
async def test_writes_go_to_those_that_take_them(writing: Sequence[int]) -> None:
    async with cluster(having(0, 1), having(2, 3)) as tiers:
        for place in writing:
            tiers.retrievers[place].accepts_writes = True
            tiers.retrievers[place].news.set()
        await until(lambda: _written(tiers, writing))


async def _written(tiers: Tiers, writing: Sequence[int]) -> bool:
    for double in tiers.retrievers:
        double.writes.clear()
    for at in range(20):
        async for outcome in tiers.client.index("notes", [Document(id=f"n{at}", text="text")]):
            assert outcome.ok
    wrote = {place for place, double in enumerate(tiers.retrievers) if double.writes}
    return wrote == set(writing)


async def test_what_meets_a_filter_is_deleted_by_writers_that_have_its_shard() -> None:
    async with cluster(having(0, 1), having(2), having(2, 3), having(0, 1, 2, 3)) as tiers:
        for double in tiers.retrievers[:3]:
            double.accepts_writes = True
            double.news.set()
        await until(lambda: _written(tiers, (0, 1, 2)))
        deleted = await tiers.client.delete_by_filter("notes", 'kind = "old"')
        shards = sorted(
            shard
            for double in tiers.retrievers
            for request in double.deletions
            for shard in request.shards
        )
        assert shards == [0, 1, 2, 3]
        assert not tiers.retrievers[3].deletions
        # Each call says 3.
        assert deleted.documents == 3 * sum(len(item.deletions) for item in tiers.retrievers)


async def test_nothing_is_said_to_be_deleted_where_no_writer_has_a_shard() -> None:
    async with cluster(having(0, 1), having(2, 3)) as tiers:
        tiers.retrievers[0].accepts_writes = True
        tiers.retrievers[0].news.set()
        await until(lambda: _written(tiers, (0,)))
        with pytest.raises(Unavailable, match="2, 3"):
            await tiers.client.delete_by_filter("notes", 'kind = "old"')


async def test_a_writer_that_has_everything_deletes_by_itself() -> None:
    async with cluster(having(0, 1, 2, 3), having(0, 1)) as tiers:
        for double in tiers.retrievers:
            double.accepts_writes = True
            double.news.set()
        await until(lambda: _written(tiers, (0, 1)))
        assert (await tiers.client.delete_by_filter("notes", 'kind = "old"')).documents == 3
        (request,) = tiers.retrievers[0].deletions
        assert not request.shards
