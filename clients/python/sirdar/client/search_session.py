"""Searches of a stream that were sent and not answered, apart from how they are carried."""

from collections.abc import Callable, Iterator

from sirdar.client import decode
from sirdar.client.resuming import Resuming
from sirdar.client.searches import Search, SearchOutcome
from sirdar.errors import DeadlineExceeded, Internal, InvalidArgument, SirdarError, Unavailable
from sirdar.v1 import search_pb2

Request = search_pb2.StreamSearchRequest
Answer = search_pb2.StreamSearchResponse | SirdarError | None

WINDOW_SEARCHES = 64
"""Enough to keep a server busy."""


class SearchSession:
    """Searches go in, outcomes come out as they are ready or in order.

    A stream that ends early is followed by a new one on which all that was not
    answered is sent again: a search has no effects. `encoder` makes a search's
    item, its `id` apart; raises InvalidArgument.
    """

    def __init__(
        self,
        encoder: Callable[[Search], search_pb2.StreamSearchItem],
        options: search_pb2.StreamSearchOptions,
        patience_seconds: float,
    ) -> None:
        self._encode = encoder
        self._options = options
        self._resuming = Resuming(patience_seconds)
        self._count = 0
        self._begun = False
        # By id, in the order of sending, until they are answered; those not sent on this stream.
        self._open: dict[int, search_pb2.StreamSearchItem] = {}
        self._unsent: list[int] = []
        self._due: list[SearchOutcome] = []

    @property
    def has_room(self) -> bool:
        return len(self._open) < WINDOW_SEARCHES

    @property
    def empty(self) -> bool:
        return not self._open and not self._due

    @property
    def all_sent(self) -> bool:
        return not self._unsent

    @property
    def awaiting(self) -> bool:
        return len(self._open) > len(self._unsent)

    @property
    def held_seconds(self) -> float:
        return 0.0

    def add(self, value: Search, /) -> None:
        number = self._count
        self._count += 1
        try:
            item = self._encode(value)
        except InvalidArgument as error:
            self._due.append(SearchOutcome(number, error=error))
            return
        item.id = number
        self._open[number] = item
        self._unsent.append(number)

    def requests(self) -> Iterator[Request]:
        if self._unsent and not self._begun:
            self._begun = True
            yield Request(options=self._options)
        unsent, self._unsent = self._unsent, []
        for number in unsent:
            yield Request(item=self._open[number])

    def take(self, answer: Answer) -> SirdarError | None:
        if answer is None:
            return Unavailable("the server ended the stream before it answered all searches")
        if isinstance(answer, SirdarError):
            return answer
        if answer.WhichOneof("event") == "shutting_down":
            delay = answer.shutting_down.retry_delay.ToTimedelta()
            return Unavailable("the server shuts down", reason="SHUTTING_DOWN", retry_after=delay)
        outcome = decode.search_outcome(answer.outcome)
        if outcome.index not in self._open:
            raise Internal(f"the server answered search {outcome.index}, which was not asked")
        if not outcome.preliminary:
            del self._open[outcome.index]
        self._resuming.answered()
        self._due.append(outcome)
        return None

    def outcomes(self) -> Iterator[SearchOutcome]:
        due, self._due = self._due, []
        yield from due

    def resume(self, fault: SirdarError) -> float:
        self._resuming.check(fault)
        self._unsent = list(self._open)
        self._begun = False
        return self._resuming.delay_seconds(fault)

    def stalled(self, seconds: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"no answer for {seconds:g} s to {len(self._open)} searches that were sent; allow "
            "more time with stall_seconds",
            reason="STALLED",
        )
