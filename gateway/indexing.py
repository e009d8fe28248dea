"""One index stream: read ahead, embed several batches at once, write and answer in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

from gateway.batch import IndexBatch, PendingItem
from gateway.byte_budget import ByteBudget
from gateway.settings import GatewaySettings
from gateway.writing import BatchWriter, Pushback
from sirdar.errors import SirdarError
from sirdar.v1 import document_pb2

# What an item holds beside its document's bytes until it is answered: Python objects, and
# mostly the receipt. Measured at 1.1 KB for an item without a document.
_ITEM_BYTES = 2048
# Ids are remembered in two halves: when the younger is full, the older is dropped.
_REMEMBERED_IDS = 500_000


@dataclass(frozen=True, slots=True)
class IndexInput:
    """An item as it arrived; the document stays as it travels."""

    document: document_pb2.Document
    if_version: int | None
    error: SirdarError | None


class RecentIds:
    """Which ids a stream has seen, in bounded memory: at least the last 500,000."""

    def __init__(self, remembered: int = _REMEMBERED_IDS) -> None:
        self._remembered = remembered
        # Hashes: an id may be long, and one that is refused of any length. Two of a million
        # ids share one with a probability of one in millions.
        self._young: set[int] = set()
        self._old: set[int] = set()

    def seen(self, identity: str) -> bool:
        """Whether the id was seen before; it is from now on."""
        number = hash(identity)
        known = number in self._young or number in self._old
        self._young.add(number)
        if len(self._young) >= self._remembered:
            self._old, self._young = self._young, set()
        return known


class IndexStream:
    """The items of one stream on their way to the store.

    Memory is bounded by `index_bytes_in_flight` and by the batches in flight:
    when the store or the reader of the answers is slow, no more is read.
    """

    def __init__(self, settings: GatewaySettings, writer: BatchWriter) -> None:
        self._settings = settings
        self._writer = writer
        self._budget = ByteBudget(settings.index_bytes_in_flight)
        self._slots = asyncio.Semaphore(settings.index_batches_in_flight)
        self._waiting: deque[PendingItem] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._batches: asyncio.Queue[asyncio.Task[IndexBatch] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[IndexBatch]] = set()
        self._pushbacks: asyncio.Queue[Pushback] = asyncio.Queue()
        writer.on_pushback = self._pushbacks.put_nowait

    async def outcomes(
        self, items: AsyncIterable[IndexInput]
    ) -> AsyncGenerator[PendingItem | Pushback, None]:
        """Each item with its receipt or error, in the order of arrival, and between them when
        a tier cannot take more just now.

        Raises Unavailable when a tier stayed away for too long: what was not
        answered by then may or may not be written.
        """
        reading = asyncio.create_task(self._read(items))
        batching = asyncio.create_task(self._batch())
        try:
            while (task := await self._batches.get()) is not None:
                while (pushback := await self._pushback_before(task)) is not None:
                    yield pushback
                batch = await task
                for item in batch.items:
                    yield item
                    self._budget.give(item.size_bytes)
            await reading
        finally:
            running = [reading, batching, *self._tasks]
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _pushback_before(self, task: asyncio.Task[IndexBatch]) -> Pushback | None:
        """The next pushback; None: the task is done."""
        if task.done():
            return None
        waiting = asyncio.ensure_future(self._pushbacks.get())
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()

    async def _read(self, items: AsyncIterable[IndexInput]) -> None:
        ids = RecentIds()
        index = 0
        try:
            async for item in items:
                size = item.document.ByteSize() + _ITEM_BYTES
                await self._budget.take(size)
                self._waiting.append(
                    PendingItem(
                        index=index,
                        document=item.document,
                        if_version=item.if_version,
                        size_bytes=size,
                        duplicate=ids.seen(item.document.id),
                        error=item.error,
                    )
                )
                index += 1
                self._arrived.set()
        finally:
            self._ended = True
            self._arrived.set()

    async def _batch(self) -> None:
        """Makes a batch of what has arrived whenever another may be on its way.

        Nothing waits for a batch to fill: while all are under way the next
        fills by itself.
        """
        before: asyncio.Task[IndexBatch] | None = None
        while await self._something_waits():
            await self._slots.acquire()
            batch = self._take()
            task = asyncio.create_task(self._writer.process(batch, before))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
            self._batches.put_nowait(task)
            before = task
        self._batches.put_nowait(None)

    async def _something_waits(self) -> bool:
        while not self._waiting and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        return bool(self._waiting)

    def _take(self) -> IndexBatch:
        """The next items: up to the limits, and no id twice, so that writes keep their order."""
        items: list[PendingItem] = []
        ids: set[str] = set()
        size = 0
        limit_bytes = self._settings.index_bytes_in_flight // 4
        while self._waiting and len(items) < self._settings.index_batch_documents:
            item = self._waiting[0]
            too_large = bool(items) and size + item.size_bytes > limit_bytes
            if too_large or item.document.id in ids:
                break
            items.append(self._waiting.popleft())
            ids.add(item.document.id)
            size += item.size_bytes
        return IndexBatch(items)

    def _finished(self, task: asyncio.Task[IndexBatch]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled():
            # Whoever reads the answers may end before this batch's turn.
            task.exception()
