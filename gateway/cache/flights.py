"""Equal searches at the same time: one searches, the others take its answer."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from services.runtime.deadline import deadline, remaining_seconds
from sirdar.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SirdarError,
    Unimplemented,
)
from sirdar.v1 import search_pb2

# Errors that the same request gets whenever and with whatever time it comes.
_OF_THE_REQUEST = (FailedPrecondition, InvalidArgument, NotFound, Unimplemented)


@dataclass(frozen=True, slots=True)
class Searched:
    """`whole`: nothing is missing, so that more time would have found nothing more."""

    response: search_pb2.SearchResponse
    whole: bool
    shared: bool = False


@dataclass(frozen=True, slots=True)
class _Flight:
    # On time.monotonic().
    deadline: float
    # None: whoever searched gave up.
    landed: "asyncio.Future[Searched | SirdarError | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Flights:
    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def share(self, key: Hashable, search: Callable[[], Awaitable[Searched]]) -> Searched:
        """The answer of an equal search that is under way, else of `search`.

        Whoever has more time than the one who searched does not take over what
        was cut short for it, but searches for themselves. Raises what `search`
        raises, DeadlineExceeded when the time is up first.
        """
        own_deadline = deadline() or math.inf
        while (flight := self._flights.get(key)) is not None:
            try:
                outcome = await asyncio.wait_for(asyncio.shield(flight.landed), remaining_seconds())
            except TimeoutError:
                raise DeadlineExceeded(
                    "the deadline passed while an equal search was under way; allow more time"
                ) from None
            if outcome is None:
                continue
            final = own_deadline <= flight.deadline
            if isinstance(outcome, Searched):
                if final or outcome.whole:
                    return Searched(_copy(outcome.response), outcome.whole, shared=True)
            elif final or isinstance(outcome, _OF_THE_REQUEST):
                raise outcome
            return await search()
        flight = self._flights[key] = _Flight(own_deadline)
        landed: Searched | SirdarError | None = None
        try:
            landed = await search()
        except SirdarError as error:
            landed = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set_result(landed)
        return landed


def _copy(response: search_pb2.SearchResponse) -> search_pb2.SearchResponse:
    """Each caller writes its own timings into it."""
    own = search_pb2.SearchResponse()
    own.CopyFrom(response)
    return own
