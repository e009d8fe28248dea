"""An index stream keeps its order and its bounds whatever the writer does."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from gateway.batch import IndexBatch, PendingItem, content_hash
from gateway.byte_budget import ByteBudget
from gateway.indexing import IndexInput, IndexStream, RecentIds
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument, Unavailable
from sirdar.v1 import document_pb2


class Writer:
    """Stands in for the tiers: later batches are embedded faster than earlier ones."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = 0
        self.most_open = 0
        self.release = asyncio.Event()
        self.release.set()
        self.fail_at: int | None = None

    async def process(
        self, batch: IndexBatch, before: asyncio.Task[IndexBatch] | None
    ) -> IndexBatch:
        number = len(self.batches)
        self.batches.append([item.document.id for item in batch.items])
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await self.release.wait()
        await asyncio.sleep(0.01 / (1 + number))
        if before is not None:
            await before
        if number == self.fail_at:
            raise Unavailable("gone")
        self.open -= 1
        for item in batch.open_items():
            item.receipt = document_pb2.WriteReceipt(version=number)
        return batch


class Sender:
    """Items, counted as they are taken."""

    def __init__(self, items: list[IndexInput]) -> None:
        self.items = items
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[IndexInput]:
        for item in self.items:
            await asyncio.sleep(0)
            self.taken += 1
            yield item


def item(identity: str, text: str = "text") -> IndexInput:
    return IndexInput(document_pb2.Document(id=identity, text=text), None, None)


def stream(writer: Writer, **settings: int) -> IndexStream:
    # The stream needs of the writer only its `process`.
    return IndexStream(GatewaySettings(**settings), writer)  # type: ignore[arg-type]


async def outcomes_of(running: IndexStream, sender: Sender) -> list[PendingItem]:
    return [event async for event in running.outcomes(sender) if isinstance(event, PendingItem)]


async def test_outcomes_keep_the_order_of_arrival() -> None:
    writer = Writer()
    identities = [str(number) for number in range(200)]
    sender = Sender([item(identity) for identity in identities])
    outcomes = await outcomes_of(stream(writer, index_batch_documents=8), sender)
    assert [outcome.document.id for outcome in outcomes] == identities
    assert [outcome.index for outcome in outcomes] == list(range(200))
    assert all(outcome.receipt is not None for outcome in outcomes)
    assert writer.most_open <= GatewaySettings().index_batches_in_flight
    assert len(writer.batches) > 1


async def test_an_id_is_in_a_batch_once_and_told_to_be_a_duplicate() -> None:
    writer = Writer()
    sender = Sender([item("a"), item("b"), item("a"), item("a")])
    outcomes = await outcomes_of(stream(writer), sender)
    assert [outcome.duplicate for outcome in outcomes] == [False, False, True, True]
    assert all(len(set(batch)) == len(batch) for batch in writer.batches)


async def test_a_refused_item_is_answered_in_its_place() -> None:
    bad = IndexInput(document_pb2.Document(id="bad"), None, InvalidArgument("no text"))
    outcomes = await outcomes_of(stream(Writer()), Sender([item("a"), bad, item("c")]))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert outcomes[1].receipt is None


async def test_a_slow_writer_stops_the_reading() -> None:
    writer = Writer()
    writer.release.clear()
    sender = Sender([item(str(number), "x" * 2**18) for number in range(100)])
    run = stream(writer, index_bytes_in_flight=2**20).outcomes(sender)
    first = asyncio.ensure_future(anext(run))
    await asyncio.sleep(0.2)
    # Four documents of 256 KiB fill the budget; a fifth may have been taken and be held.
    assert sender.taken <= 5
    writer.release.set()
    await first
    assert len([outcome async for outcome in run]) == 99


async def test_a_reader_of_answers_that_stops_stops_the_reading() -> None:
    sender = Sender([item(str(number), "x" * 2**18) for number in range(100)])
    run = stream(Writer(), index_bytes_in_flight=2**20).outcomes(sender)
    await anext(run)
    await asyncio.sleep(0.2)
    assert sender.taken <= 6
    await run.aclose()


async def test_tiny_items_count_what_they_hold_in_memory() -> None:
    """An item without any bytes costs kilobytes here: it must not be free."""
    empty = IndexInput(document_pb2.Document(), None, InvalidArgument("no id"))
    sender = Sender([empty] * 5_000)
    run = stream(Writer(), index_bytes_in_flight=2**20).outcomes(sender)
    await anext(run)
    await asyncio.sleep(0.5)
    assert sender.taken <= 1_000
    assert len([outcome async for outcome in run]) == 4_999


async def test_a_tier_that_stays_away_ends_the_stream_after_what_was_answered() -> None:
    writer = Writer()
    writer.fail_at = 2
    seen: list[str] = []
    with pytest.raises(Unavailable):
        async for outcome in stream(writer, index_batch_documents=1).outcomes(
            Sender([item(str(number)) for number in range(10)])
        ):
            assert isinstance(outcome, PendingItem)
            seen.append(outcome.document.id)
    assert seen == ["0", "1"]


async def test_the_end_of_a_stream_leaves_no_task_and_no_fault_behind() -> None:
    loop = asyncio.get_running_loop()
    faults: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    writer = Writer()
    writer.fail_at = 1
    run = stream(writer, index_batch_documents=1).outcomes(
        Sender([item(str(number)) for number in range(10)])
    )
    await anext(run)
    # The reader is slow: meanwhile the second batch fails, and those behind it with it.
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        await anext(run)
    del run
    await asyncio.sleep(0.05)
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert faults == []


async def test_the_budget_lets_one_large_item_pass_alone() -> None:
    budget = ByteBudget(10)
    await budget.take(50)
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(50)
    await asyncio.wait_for(waiting, 1)


def test_recent_ids_are_remembered_within_bounds() -> None:
    ids = RecentIds(remembered=3)
    assert [ids.seen(identity) for identity in "aab"] == [False, True, False]
    assert [ids.seen(identity) for identity in "cdab"] == [False, False, True, True]
    for identity in "efghij":
        ids.seen(identity)
    assert not ids.seen("a")


async def test_ids_that_are_remembered_are_not_held() -> None:
    items = [
        IndexInput(document_pb2.Document(id=f"{number}" * 2**20), None, InvalidArgument("long"))
        for number in range(8)
    ]
    ids = RecentIds()
    tracemalloc.start()
    assert not any(ids.seen(item.document.id) for item in items)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2**20


def test_the_content_hash_tells_title_from_text() -> None:
    document = document_pb2.Document
    assert content_hash(document(title="a", text="b")) == content_hash(
        document(title="a", text="b", id="x")
    )
    assert content_hash(document(title="ab", text="c")) != content_hash(
        document(title="a", text="bc")
    )
