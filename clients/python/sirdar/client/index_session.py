"""What an index stream has sent and what was answered, apart from how it is carried.

The sync and the asyncio client pump messages between a stream and this
session; it decides what is sent, what is sent again on a new stream, and when
to give up.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from sirdar.client import decode, encode
from sirdar.client.channel import never_sent
from sirdar.client.documents import ConditionalDocument, Document, IndexOutcome
from sirdar.client.resuming import Resuming
from sirdar.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    SirdarError,
    Unavailable,
)
from sirdar.v1 import search_pb2

Request = search_pb2.IndexDocumentsRequest
Response = search_pb2.IndexDocumentsResponse
# What a stream gives: a message, its error, or None for its end.
Answer = Response | SirdarError | None

# Enough to keep a server busy (hundreds of documents a second, answered within
# a second or two), small enough to send again after a broken connection.
WINDOW_DOCUMENTS = 1_024
WINDOW_BYTES = 16 * 2**20


@dataclass(slots=True)
class _Entry:
    """A document from its arrival until its outcome is handed out."""

    index: int
    document_id: str
    request: Request
    size_bytes: int
    conditional: bool
    outcome: IndexOutcome | None = None


class IndexSession:
    """Documents go in, outcomes come out in the same order, over as many streams as it takes.

    A stream that ends early, with ShuttingDown or for want of a server, is
    followed by a new one on which all that was not answered is sent again,
    until there was no answer for `patience_seconds` from the first failure on.
    Where the server asks to slow down, what is not sent waits here as long.
    """

    def __init__(
        self,
        target: Request,
        *,
        patience_seconds: float,
        max_message_bytes: int,
    ) -> None:
        self._target = target
        self._target_sent = False
        self._resuming = Resuming(patience_seconds)
        self._max_message_bytes = max_message_bytes
        self._count = 0
        self._bytes = 0
        self._entries: deque[_Entry] = deque()  # without those handed out, in order
        self._unsent: deque[_Entry] = deque()
        self._sent: deque[_Entry] = deque()  # on this stream and not answered
        self._answered = 0  # on this stream
        self._held_until = 0.0  # on time.monotonic(): the server asked for it

    @property
    def has_room(self) -> bool:
        """Whether another document may be added; one always fits, of whatever size."""
        return len(self._entries) < WINDOW_DOCUMENTS and self._bytes < WINDOW_BYTES

    @property
    def empty(self) -> bool:
        """Every outcome was handed out."""
        return not self._entries

    @property
    def all_sent(self) -> bool:
        return not self._unsent

    @property
    def awaiting(self) -> bool:
        """The server owes answers."""
        return bool(self._sent)

    @property
    def held_seconds(self) -> float:
        """How long what is not sent has to wait; 0: nothing has to."""
        return max(0.0, self._held_until - time.monotonic()) if self._unsent else 0.0

    def add(self, value: Document | ConditionalDocument) -> None:
        """Takes a document. One that cannot be sent is refused here and holds up no other."""
        conditional = isinstance(value, ConditionalDocument)
        document = value.document if isinstance(value, ConditionalDocument) else value
        entry = _Entry(self._count, getattr(document, "id", ""), Request(), 0, conditional)
        self._count += 1
        try:
            entry.request = encode.index_request(value)
            encode.within(entry.request, self._max_message_bytes, "document")
        except InvalidArgument as error:
            entry.request = Request()
            entry.outcome = IndexOutcome(entry.index, entry.document_id, error=error)
        else:
            entry.size_bytes = entry.request.ByteSize()
            self._bytes += entry.size_bytes
            self._unsent.append(entry)
        self._entries.append(entry)

    def requests(self) -> Iterator[Request]:
        """All messages that can be sent now.

        After a failure that is one document, until it is answered: a server in
        trouble is not sent the whole window again and again.
        """
        if self.held_seconds:
            return
        if self._unsent and not self._target_sent:
            self._target_sent = True
            yield self._target
        while self._unsent and not (self._resuming.failures and self._sent):
            entry = self._unsent.popleft()
            self._sent.append(entry)
            yield entry.request

    def take(self, answer: Answer) -> SirdarError | None:
        """Notes what the stream gave.

        Returns why a new stream is needed, None while this one goes on.
        """
        if answer is None:
            return Unavailable("the server ended the stream before it answered all documents")
        if isinstance(answer, SirdarError):
            return answer
        if answer.WhichOneof("event") == "shutting_down":
            delay = answer.shutting_down.retry_delay.ToTimedelta()
            return Unavailable("the server shuts down", reason="SHUTTING_DOWN", retry_after=delay)
        if answer.WhichOneof("event") == "slow_down":
            delay = answer.slow_down.retry_delay.ToTimedelta()
            self._held_until = time.monotonic() + delay.total_seconds()
            return None
        self._settle(answer.outcome)
        return None

    def _settle(self, outcome: search_pb2.IndexOutcome) -> None:
        if not self._sent or outcome.index != self._answered:
            raise Internal(
                f"the server answered item {outcome.index} where {self._answered} was due; "
                "documents before it may be unanswered, index them again"
            )
        entry = self._sent.popleft()
        entry.outcome = decode.index_outcome(outcome, entry.index)
        self._answered += 1
        self._resuming.answered()

    def outcomes(self) -> Iterator[IndexOutcome]:
        """Hands out the outcomes that are due: each once, in order."""
        while self._entries and self._entries[0].outcome is not None:
            entry = self._entries.popleft()
            self._bytes -= entry.size_bytes
            assert entry.outcome is not None
            yield entry.outcome

    def resume(self, fault: SirdarError) -> float:
        """Prepares for a new stream after `fault`; returns the seconds to wait before it.

        Raises the fault if a new stream would not help or did not for too long.
        """
        self._resuming.check(fault)
        # A server that says goodbye has not written what it did not answer; of a
        # connection that broke nobody knows.
        if fault.reason != "SHUTTING_DOWN" and not never_sent(fault):
            for entry in self._sent:
                if entry.conditional:
                    entry.outcome = _unknown(entry, fault)
        self._unsent = deque(entry for entry in self._entries if entry.outcome is None)
        self._sent.clear()
        self._answered = 0
        self._target_sent = False
        self._held_until = 0.0
        return self._resuming.delay_seconds(fault)

    def stalled(self, seconds: float) -> DeadlineExceeded:
        """The error for a server that answered nothing for so long."""
        return DeadlineExceeded(
            f"no answer for {seconds:g} s to {len(self._sent)} documents that were sent; "
            "allow more time with stall_seconds",
            reason="STALLED",
        )


def _unknown(entry: _Entry, fault: SirdarError) -> IndexOutcome:
    error = Unavailable(
        "the connection broke before the conditional write was answered: "
        f"read the version of {entry.document_id!r} to see whether it was done ({fault.message})",
        reason="OUTCOME_UNKNOWN",
    )
    return IndexOutcome(entry.index, entry.document_id, error=error)
