"""What the pumps of both clients need of a stream's session, which knows what it is about."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, TypeVar

from sirdar.errors import DeadlineExceeded, SirdarError

Request: TypeAlias = Any
# What a stream gives: a message, its error, or None for its end.
Answer: TypeAlias = Any

ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
OutcomeT_co = TypeVar("OutcomeT_co", covariant=True)


class StreamSession(Protocol[ItemT_contra, OutcomeT_co]):
    """Items go in, outcomes come out, over as many streams as it takes."""

    @property
    def has_room(self) -> bool:
        """Whether another item may be added."""

    @property
    def empty(self) -> bool:
        """Every outcome was handed out."""

    @property
    def all_sent(self) -> bool: ...

    @property
    def awaiting(self) -> bool:
        """The server owes answers."""

    @property
    def held_seconds(self) -> float:
        """How long what is not sent has to wait; 0: nothing has to."""

    def add(self, value: ItemT_contra, /) -> None:
        """Takes an item. One that cannot be sent is refused here and holds up no other."""

    def requests(self) -> Iterator[Request]:
        """All messages that can be sent now."""

    def take(self, answer: Answer) -> SirdarError | None:
        """Notes what the stream gave. Returns why a new one is needed, None while it goes on."""

    def outcomes(self) -> Iterator[OutcomeT_co]:
        """Hands out the outcomes that are due, each once."""

    def resume(self, fault: SirdarError) -> float:
        """Prepares for a new stream; returns the seconds to wait before it. Raises the fault if
        a new stream would not help or did not for too long."""

    def stalled(self, seconds: float) -> DeadlineExceeded:
        """The error for a server that answered nothing for so long."""
