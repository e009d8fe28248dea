"""What a document may be, and what each kind of write makes of it."""

from dataclasses import dataclass
from typing import Protocol

from tests.chaos.model.content import Metadata, content


@dataclass(frozen=True, slots=True)
class State:
    """A document at a moment. `content` None: there is none, never or no more.

    The version counts on over deletions until their tombstones are purged. `kept`: the last
    write left the content as it was.
    """

    version: int = 0
    content: int | None = None
    metadata: Metadata = ()
    expires_ns: int | None = None
    kept: bool = False

    @property
    def live(self) -> bool:
        return self.content is not None

    @property
    def passages(self) -> int:
        return 0 if self.content is None else len(content(self.content).passages)

    def gone(self) -> "State":
        return State(version=self.version)


NEVER = State()


@dataclass(frozen=True, slots=True)
class Written:
    version: int
    passages: int
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    existed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """By the name of the error's class."""

    error: str


Outcome = Written | Deleted | Refused


class Change(Protocol):
    """What one item of a call does to its document."""

    @property
    def document(self) -> str: ...

    def apply(self, state: State) -> tuple[Outcome, State]:
        """What is answered, and what the document is then."""
        ...


@dataclass(frozen=True, slots=True)
class Put:
    """A document with its passages, or with those that the store has (`keep`)."""

    document: str
    content: int
    metadata: Metadata
    expires_ns: int | None = None
    keep: bool = False
    if_version: int | None = None

    def apply(self, state: State) -> tuple[Outcome, State]:
        if self.if_version is not None and self.if_version != _version(state):
            return Refused("Aborted"), state
        if self.keep and state.content != self.content:
            return Refused("FailedPrecondition"), state
        after = State(
            state.version + 1, self.content, self.metadata, self.expires_ns, kept=self.keep
        )
        return Written(after.version, after.passages, self.keep), after


@dataclass(frozen=True, slots=True)
class Delete:
    document: str

    def apply(self, state: State) -> tuple[Outcome, State]:
        return Deleted(state.live), state.gone() if state.live else state


@dataclass(frozen=True, slots=True)
class Patch:
    """Other metadata beside the same content; a state of `expires_ns` None never expires."""

    document: str
    put: Metadata
    remove: tuple[str, ...]
    changes_expiry: bool = False
    expires_ns: int | None = None
    if_version: int | None = None

    def apply(self, state: State) -> tuple[Outcome, State]:
        if not state.live:
            return Refused("NotFound"), state
        if self.if_version is not None and self.if_version != state.version:
            return Refused("Aborted"), state
        fields = {name: value for name, value in state.metadata if name not in self.remove}
        fields |= dict(self.put)
        after = State(
            version=state.version + 1,
            content=state.content,
            metadata=tuple(sorted(fields.items())),
            expires_ns=self.expires_ns if self.changes_expiry else state.expires_ns,
            kept=True,
        )
        return Written(after.version, after.passages, True), after


def _version(state: State) -> int:
    """As conditions see it: 0 where there is no document."""
    return state.version if state.live else 0
