"""Queries that come while others are being embedded, sent together."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from gateway.backends.tenant import tenant
from services.runtime.deadline import outgoing_timeout, set_deadline
from services.runtime.interceptors import request_id
from sirdar.errors import DeadlineExceeded, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

KeyT = TypeVar("KeyT", bound=Hashable)
AnswerT = TypeVar("AnswerT")
Call = Callable[[KeyT, Sequence[str], float], Awaitable[Sequence[AnswerT]]]

# So many calls of a kind are under way before the next queries wait for one of them to end, at
# most so long, or until there are enough.
_CALLS_AT_ONCE = 2
_PATIENCE_SECONDS = 0.02
_ENOUGH = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Query(Generic[AnswerT]):
    text: str
    # On time.monotonic().
    deadline: float
    answer: "asyncio.Future[AnswerT]"
    request_id: str
    # Whom a call is for, and the id that its logs have: those of the first of its queries.
    context: Context


@dataclass(slots=True, eq=False)
class _Lane(Generic[KeyT, AnswerT]):
    """Of queries that may go in one call."""

    at: tuple[KeyT, str]
    """What they have in common, and their tenant."""
    in_flight: int = 0
    waiting: list[_Query[AnswerT]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Gathering(Generic[KeyT, AnswerT]):
    """A call costs its two sides together half a millisecond of a core, whatever is in it.

    What comes alone goes alone and at once. `call(key, texts, limit_seconds)` answers each
    text, in order; texts of one tenant with equal keys may go together.
    """

    def __init__(self, call: Call[KeyT, AnswerT]) -> None:
        self._call = call
        self._lanes: dict[tuple[KeyT, str], _Lane[KeyT, AnswerT]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, key: KeyT, text: str, limit_seconds: float) -> AnswerT:
        """Raises what the call raises; DeadlineExceeded when the limit, or the caller's own
        deadline, passes first."""
        at = (key, tenant())
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = _Lane(at)
        if lane.in_flight < _CALLS_AT_ONCE and not lane.waiting:
            return await self._alone(lane, text, limit_seconds)
        return await self._with_others(lane, text, limit_seconds)

    async def _alone(self, lane: _Lane[KeyT, AnswerT], text: str, limit_seconds: float) -> AnswerT:
        lane.in_flight += 1
        try:
            (answer,) = await self._call(lane.at[0], (text,), limit_seconds)
            return answer
        finally:
            lane.in_flight -= 1
            self._send(lane)

    async def _with_others(
        self, lane: _Lane[KeyT, AnswerT], text: str, limit_seconds: float
    ) -> AnswerT:
        loop = asyncio.get_running_loop()
        timeout = outgoing_timeout(limit_seconds)
        deadline = time.monotonic() + timeout
        query: _Query[AnswerT] = _Query(
            text, deadline, loop.create_future(), request_id(), copy_context()
        )
        lane.waiting.append(query)
        if len(lane.waiting) >= _ENOUGH:
            self._send(lane)
        elif lane.timer is None:
            lane.timer = loop.call_later(_PATIENCE_SECONDS, self._send, lane)
        try:
            async with asyncio.timeout(timeout):
                return await query.answer
        except TimeoutError:
            raise DeadlineExceeded(
                f"the embedder did not answer within {timeout:.3g} s", reason="EMBEDDER_TIMEOUT"
            ) from None

    def _send(self, lane: _Lane[KeyT, AnswerT]) -> None:
        """All that waits; those that gave up cost nothing more."""
        queries = [query for query in lane.waiting if not query.answer.done()]
        lane.waiting.clear()
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        if queries:
            lane.in_flight += 1
            task = asyncio.create_task(self._together(lane, queries), context=queries[0].context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            _cancel_with_all(queries, task)
        elif not lane.in_flight:
            del self._lanes[lane.at]

    async def _together(self, lane: _Lane[KeyT, AnswerT], queries: list[_Query[AnswerT]]) -> None:
        # As long as the most patient of them waits, and that is the callers' choice; the others
        # stop waiting by themselves.
        limit_seconds = max(query.deadline for query in queries) - time.monotonic()
        set_deadline(limit_seconds)
        try:
            texts = [query.text for query in queries]
            if len(queries) > 1:
                # The tier's own log has the first of them alone.
                ids = [query.request_id for query in queries]
                log.debug("queries go in one call", request_ids=ids)
            answers = await self._call(lane.at[0], texts, limit_seconds)
        except Exception as error:  # noqa: BLE001 - each of those who wait raises it
            _fail(queries, error)
        else:
            for query, answer in zip(queries, answers, strict=True):
                if not query.answer.done():
                    query.answer.set_result(answer)
        finally:
            # Cancelled by who closes the channel, say: nobody is left to wait for nothing.
            _fail(queries, Unavailable("the call to the embedder was cancelled; repeat it"))
            lane.in_flight -= 1
            self._send(lane)


def _fail(queries: Sequence[_Query[AnswerT]], error: Exception) -> None:
    """Those that have no answer yet."""
    for query in queries:
        if not query.answer.done():
            query.answer.set_exception(error)


def _cancel_with_all(queries: Sequence[_Query[AnswerT]], call: "asyncio.Task[None]") -> None:
    """A call that nobody waits for any more is not waited for either."""
    left = len(queries)

    def done(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            call.cancel()

    for query in queries:
        query.answer.add_done_callback(done)
