"""StreamSearch and BatchSearch: many searches at once, each answered for itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

from gateway.cache.search import CachedSearch
from gateway.settings import GatewaySettings
from services.runtime.deadline import remaining_seconds, set_deadline
from services.runtime.drain import Drain
from services.runtime.interceptors import fault_of_ours
from sirdar.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    SirdarError,
    to_status,
)
from sirdar.v1 import common_pb2, search_pb2

MAX_BATCH_SEARCHES = 100


class SearchStreams:
    """As many streams at once as the server is set to take."""

    def __init__(self, settings: GatewaySettings, drain: Drain, searches: CachedSearch) -> None:
        self._settings = settings
        self._drain = drain
        self._searches = searches
        self._open = 0

    async def batch(self, request: search_pb2.BatchSearchRequest) -> search_pb2.BatchSearchResponse:
        """Raises InvalidArgument; what a search raises is its outcome."""
        count = len(request.searches)
        if not 1 <= count <= MAX_BATCH_SEARCHES:
            raise InvalidArgument.field(
                "searches", f"has {count} searches; send 1 to {MAX_BATCH_SEARCHES} in a batch"
            )
        slots = asyncio.Semaphore(self._settings.max_stream_searches)

        async def answer(place: int, search: search_pb2.SearchRequest) -> search_pb2.SearchOutcome:
            async with slots:
                return await self._outcome(search_pb2.StreamSearchItem(id=place, search=search))

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(answer(place, search))
                for place, search in enumerate(request.searches)
            ]
        return search_pb2.BatchSearchResponse(outcomes=[task.result() for task in tasks])

    async def serve(self, request_iterator: Any) -> AsyncIterator[search_pb2.StreamSearchResponse]:
        """Raises the errors of SearchService.StreamSearch."""
        if self._open >= self._settings.max_search_streams:
            raise ResourceExhausted(
                f"{self._open} search streams are open already; retry when one has ended",
                retry_after=timedelta(seconds=1),
            )
        self._open += 1
        try:
            requests = self._drain.requests(request_iterator)
            first = await anext(requests, None)
            if first is not None:
                options, first = self._options(first)
                stream = _Stream(self._outcome, options)
                async for outcome in stream.outcomes(_items(first, requests)):
                    yield search_pb2.StreamSearchResponse(outcome=outcome)
        finally:
            self._open -= 1
        if self._drain.draining:
            # Another replica is up already, or this one's successor soon.
            stop = common_pb2.ShuttingDown()
            stop.retry_delay.FromTimedelta(timedelta(milliseconds=200))
            yield search_pb2.StreamSearchResponse(shutting_down=stop)

    def _options(
        self, first: search_pb2.StreamSearchRequest
    ) -> tuple[search_pb2.StreamSearchOptions, search_pb2.StreamSearchRequest | None]:
        """The stream's options, filled up, and its first message where that is an item."""
        limit = self._settings.max_stream_searches
        options = search_pb2.StreamSearchOptions(in_flight=limit)
        if not first.HasField("options"):
            return options, first
        options.MergeFrom(first.options)
        if not 1 <= options.in_flight <= limit:
            raise InvalidArgument.field(
                "options.in_flight", f"is {options.in_flight}; it must be 1 to {limit}"
            )
        return options, None

    async def _outcome(
        self,
        item: search_pb2.StreamSearchItem,
        preliminary: Callable[[search_pb2.SearchResponse], None] | None = None,
    ) -> search_pb2.SearchOutcome:
        """What the search answers or why it does not. To be run in a task of its own, whose
        deadline it sets."""
        try:
            _limit_time(item)
            response = await self._searches.search(item.search, preliminary)
            return search_pb2.SearchOutcome(id=item.id, response=response)
        except SirdarError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - logged; the other searches go on
            refused = fault_of_ours("StreamSearch", error)
        return search_pb2.SearchOutcome(id=item.id, error=to_status(refused))


_Preliminary: TypeAlias = Callable[[search_pb2.SearchResponse], None]
_Answer: TypeAlias = Callable[
    [search_pb2.StreamSearchItem, _Preliminary | None], Awaitable[search_pb2.SearchOutcome]
]


class _Stream:
    """The searches of one stream.

    At most `in_flight` are read and not yet taken by the reader of the answers: where that is
    slow, no more is read.
    """

    def __init__(self, answer: _Answer, options: search_pb2.StreamSearchOptions) -> None:
        self._answer = answer
        self._ordered = options.ordered
        self._slots = asyncio.Semaphore(options.in_flight)
        self._tasks: set[asyncio.Task[None]] = set()
        # Of all searches, or, where they are to be in order, one a search; None: the last was.
        self._answers: asyncio.Queue[search_pb2.SearchOutcome | None] = asyncio.Queue()
        self._turns: asyncio.Queue[asyncio.Queue[search_pb2.SearchOutcome | None]] = asyncio.Queue()

    async def outcomes(
        self, items: AsyncIterator[search_pb2.StreamSearchItem]
    ) -> AsyncGenerator[search_pb2.SearchOutcome, None]:
        """Each search's outcome, preliminary ones before it."""
        reading = asyncio.create_task(self._read(items))
        try:
            async for outcome in self._in_order() if self._ordered else self._taken(self._answers):
                yield outcome
                if not outcome.preliminary:
                    self._slots.release()
            await reading
        finally:
            running = [reading, *self._tasks]
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _in_order(self) -> AsyncGenerator[search_pb2.SearchOutcome, None]:
        while True:
            turn = await self._turns.get()
            if turn is self._answers:
                return
            async for outcome in self._taken(turn):
                yield outcome
                if not outcome.preliminary:
                    break

    @staticmethod
    async def _taken(
        answers: asyncio.Queue[search_pb2.SearchOutcome | None],
    ) -> AsyncGenerator[search_pb2.SearchOutcome, None]:
        while (outcome := await answers.get()) is not None:
            yield outcome

    async def _read(self, items: AsyncIterator[search_pb2.StreamSearchItem]) -> None:
        try:
            await self._slots.acquire()
            async for item in items:
                answers = self._answers
                if self._ordered:
                    answers = asyncio.Queue()
                    self._turns.put_nowait(answers)
                task = asyncio.create_task(self._search(item, answers))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                await self._slots.acquire()
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._turns.put_nowait(self._answers)
            self._answers.put_nowait(None)

    async def _search(
        self,
        item: search_pb2.StreamSearchItem,
        answers: asyncio.Queue[search_pb2.SearchOutcome | None],
    ) -> None:
        def preliminary(response: search_pb2.SearchResponse) -> None:
            answers.put_nowait(
                search_pb2.SearchOutcome(id=item.id, response=response, preliminary=True)
            )

        answers.put_nowait(await self._answer(item, preliminary if item.progressive else None))


async def _items(
    first: search_pb2.StreamSearchRequest | None,
    requests: AsyncIterator[search_pb2.StreamSearchRequest],
) -> AsyncIterator[search_pb2.StreamSearchItem]:
    """Raises InvalidArgument where a message is not an item."""
    if first is not None:
        yield _item(first)
    async for request in requests:
        yield _item(request)


def _item(request: search_pb2.StreamSearchRequest) -> search_pb2.StreamSearchItem:
    if not request.HasField("item"):
        raise InvalidArgument.field(
            "item", "must be set in every message; options come first, and once"
        )
    return request.item


def _limit_time(item: search_pb2.StreamSearchItem) -> None:
    """Gives the task the deadline of its search. Raises InvalidArgument, DeadlineExceeded."""
    if not item.HasField("timeout"):
        return
    seconds = item.timeout.seconds + item.timeout.nanos * 1e-9
    if seconds <= 0:
        raise InvalidArgument.field("timeout", f"is {seconds:g} s; it must be more than 0")
    remaining = remaining_seconds()
    if remaining == 0.0:
        raise DeadlineExceeded("the stream's deadline has passed")
    set_deadline(seconds if remaining is None else min(seconds, remaining))
