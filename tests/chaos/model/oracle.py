"""What may be true of a collection, given what was asked of it and what it answered.

Each document has the set of states that it may be in. An answered call leaves
those that explain the answer; a call that was not answered leaves both what
was before it and what is after it, until somebody looks. States are kept as
they were written; what time makes of them is told when they are asked for.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.retriever.store.placement import shard_of
from services.retriever.store.records import Position
from services.retriever.tokens import read_consistency_token
from tests.chaos.model.expiry import CALL_ENDS_WITHIN_NS, between
from tests.chaos.model.state import NEVER, Change, Outcome, State
from tests.chaos.model.writers import Writers

States = frozenset[State]


class Violation(AssertionError):
    """The retriever broke a promise."""


@dataclass(frozen=True, slots=True)
class Definition:
    """How a collection was created. `similarity` is a number of the contract's enum."""

    shards: int
    index_kind: str
    similarity: int
    lexical: bool
    language: str
    # Whether filters may name its metadata.
    schema: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """Changes that were asked for in one request, when, and the states before."""

    changes: tuple[Change, ...]
    before: dict[str, States]
    since_ns: int

    def after(self, document: str, until_ns: int) -> list[tuple[list[Outcome], State]]:
        """What the changes to one of its documents may answer, and leave, when they are made
        until then."""
        results: list[tuple[list[Outcome], State]] = [
            ([], state) for state in self.before[document]
        ]
        for change in self.changes:
            if change.document == document:
                results = [
                    ([*outcomes, outcome], after)
                    for outcomes, before in results
                    for state in between(frozenset((before,)), self.since_ns, until_ns)
                    for outcome, after in (change.apply(state),)
                ]
        return results


@dataclass
class Window:
    """What documents may have been while a read was under way: `earlier` beside what they
    may be now."""

    since_ns: int
    earlier: dict[str, set[State]] = field(default_factory=dict)


class CollectionModel:
    def __init__(self, namespace: str, name: str, definition: Definition) -> None:
        self.namespace = namespace
        self.name = name
        self.definition = definition
        # Its deletion was asked for.
        self.doomed = False
        self.documents: dict[str, States] = {}
        # Calls that were never answered: each was done as a whole or not at all.
        self.lost: list[Call] = []
        # The last token that a write of each shard returned.
        self.tokens: dict[int, str] = {}
        self._seqs: dict[int, set[int]] = {}
        self._last_seqs: dict[str, int] = {}
        self._generation_key: int | None = None
        self._windows: list[Window] = []
        self.writers = Writers()
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __repr__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def may_be(self, document: str) -> States:
        """What it may be now."""
        return between(self._states(document), time.time_ns())

    def known(self, since_ns: int) -> dict[str, States]:
        """What each document may have been at some time since then, if nobody wrote it."""
        return {document: between(states, since_ns) for document, states in self.documents.items()}

    def begin(self, changes: Sequence[Change]) -> Call:
        """A call is on its way: what it changes may be as before or as after it."""
        before = {item.document: self._states(item.document) for item in changes}
        call = Call(tuple(changes), before, time.time_ns())
        for document, states in before.items():
            results = call.after(document, call.since_ns + CALL_ENDS_WITHIN_NS)
            self._set(document, states | {state for _, state in results})
        return call

    def answered(self, call: Call, outcomes: Sequence[Outcome]) -> None:
        """The call is done: of each document only what explains the outcomes may be true."""
        now = time.time_ns()
        for document, before in call.before.items():
            said = [
                outcome
                for change, outcome in zip(call.changes, outcomes, strict=True)
                if change.document == document
            ]
            results = call.after(document, now)
            explained = frozenset(state for outcome, state in results if outcome == said)
            if not explained:
                raise Violation(
                    f"{self} {document}: answered {said}, but from {shown(before)} it can only be "
                    f"{[outcome for outcome, _ in results]}"
                )
            self._set(document, explained)

    def not_done(self, call: Call) -> None:
        """The call was refused before it changed anything."""
        for document, before in call.before.items():
            self._set(document, before)

    def observed(self, document: str, states: Iterable[State]) -> None:
        """The document is in one of the states, which are among those that it may be in."""
        self._set(document, frozenset(states))

    def settle_lost(self) -> None:
        """Each document was looked at: no call may have been done in part."""
        until_ns = time.time_ns()
        for call in self.lost:
            done, undone = [], []
            for document in call.before:
                before = between(call.before[document], call.since_ns, until_ns)
                results = frozenset(state for _, state in call.after(document, until_ns))
                after = between(results, call.since_ns, until_ns)
                now = self.documents[document]
                if now <= after and not now & before:
                    done.append(document)
                elif now <= before and not now & after:
                    undone.append(document)
            if done and undone:
                raise Violation(f"{self}: a call was done for {done} and not for {undone}")
        self.lost.clear()

    def receipt(self, document: str, token: str, *, wrote: bool) -> None:
        """Checks where a write stands in the log of its shard."""
        position = read_consistency_token(token, "token")
        shard = shard_of(document, self.definition.shards)
        self._generation_key = self._generation_key or position.generation_key
        if (position.generation_key, position.shard) != (self._generation_key, shard):
            raise Violation(f"{self} {document}: {position} is of another shard")
        if wrote:
            self._took_seq(document, position)
        self.saw(token)

    def saw(self, token: str) -> None:
        """Reads of the session see what the token names."""
        shard = read_consistency_token(token, "token").shard
        self.tokens[shard] = max(self.tokens.get(shard, token), token, key=_seq)

    def last_seq(self, shard: int) -> int:
        """The last one that was acknowledged."""
        return max(self._seqs.get(shard, ()), default=0)

    def _took_seq(self, document: str, position: Position) -> None:
        seqs = self._seqs.setdefault(position.shard, set())
        last = self._last_seqs.get(document, 0)
        if position.seq in seqs or position.seq <= last:
            raise Violation(f"{self} {document}: {position} was taken, or is not above {last}")
        seqs.add(position.seq)
        self._last_seqs[document] = position.seq

    @contextmanager
    def watched(self) -> Iterator[Window]:
        window = Window(time.time_ns())
        self._windows.append(window)
        try:
            yield window
        finally:
            # By identity: windows may be equal.
            self._windows = [other for other in self._windows if other is not window]

    def in_window(self, window: Window) -> dict[str, States]:
        """What each document may have been at some time of the window, until now."""
        return {
            document: between(states | window.earlier.get(document, set()), window.since_ns)
            for document, states in self.documents.items()
        }

    @contextmanager
    def used(self) -> Iterator[None]:
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def unused(self) -> None:
        """Until no call is under way that might find another collection under this name."""
        await self._unused.wait()

    def _states(self, document: str) -> States:
        return self.documents.get(document, frozenset((NEVER,)))

    def _set(self, document: str, states: States) -> None:
        for window in self._windows:
            seen = window.earlier.setdefault(document, set())
            seen.update(self._states(document), states)
        self.documents[document] = states


def _seq(token: str) -> int:
    return read_consistency_token(token, "token").seq


def shown(states: States) -> str:
    return "[" + "; ".join(str(state) for state in sorted(states, key=str)) + "]"


NOBODY = CollectionModel("none", "none", Definition(1, "hnsw", 0, lexical=False, language="none"))
"""Stands in for a collection that is not there."""
