"""Which retriever has which shard, by what they announce."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sirdar.v1 import retriever_pb2

# What one has shown for so long the others should show, too.
_FRESH_SECONDS = 1.0


class Group(NamedTuple):
    """Shards that the same retrievers have, by their places."""

    shards: tuple[int, ...]
    holders: frozenset[int]


Name = tuple[str, str]
"""Of a collection: its namespace and its own."""


@dataclass(slots=True)
class _Held:
    state: "retriever_pb2.ShardState.ValueType"
    applied_seq: int


@dataclass(slots=True)
class _Shard:
    """One shard, and what was the most that anybody had shown of it some time ago."""

    held: dict[int, _Held] = field(default_factory=dict)
    best_seq: int = 0
    # At the last look, and at the one before: at least `_FRESH_SECONDS` ago.
    looked_at: float = 0.0
    looked_seq: int = 0
    before_seq: int = 0

    def note(self, place: int, held: _Held, now: float) -> None:
        self.held[place] = held
        if now - self.looked_at >= _FRESH_SECONDS:
            self.looked_at = now
            self.before_seq, self.looked_seq = self.looked_seq, self.best_seq
        self.best_seq = max(item.applied_seq for item in self.held.values())

    def places(self, state: "retriever_pb2.ShardState.ValueType") -> set[int]:
        return {place for place, item in self.held.items() if item.state == state}

    def behind(self, place: int) -> bool:
        # A collection that was made anew starts from zero.
        return self.held[place].applied_seq < min(self.before_seq, self.best_seq)


@dataclass(slots=True)
class _Collection:
    generation: int
    shards: list[_Shard]
    # Worked out when it is asked for; None: something changed since.
    groups: tuple[Group, ...] | None = None


@dataclass(slots=True)
class _Retriever:
    """How far a retriever is known."""

    heard: bool = False
    # Its stream has not ended.
    connected: bool = False
    # It does not know how to announce: it has all that there is.
    older: bool = False
    accepts_writes: bool = False


class Picture:
    """Of so many retrievers. What nobody announces may be anywhere."""

    def __init__(self, retrievers: int, now: Callable[[], float] = time.monotonic) -> None:
        self._retrievers = [_Retriever() for _ in range(retrievers)]
        self._collections: dict[Name, _Collection] = {}
        self._now = now
        self.writers: frozenset[int] = frozenset()
        """Those that can be reached and take writes; empty: none has said so."""
        self.present: frozenset[int] = frozenset()
        """Those that can be reached, as far as they announce; empty: nobody is known to be."""

    def groups(self, namespace: str, collection: str) -> tuple[Group, ...]:
        """All shards of a collection, each in one group; empty: nothing is known of it."""
        known = self._collections.get((namespace, collection))
        if known is None:
            return ()
        if known.groups is None:
            known.groups = self._grouped(known.shards)
        return known.groups

    def begin(self, place: int, announced: Iterable[retriever_pb2.ShardAnnouncement]) -> None:
        """The whole picture of one that has just been reached."""
        for name in list(self._collections):
            self._forget(name, place)
        retriever = self._retrievers[place]
        retriever.heard = retriever.connected = True
        retriever.older = False
        self._connections_changed()
        self.change(place, announced)

    def change(self, place: int, announced: Iterable[retriever_pb2.ShardAnnouncement]) -> None:
        now = self._now()
        for shard in announced:
            name = (shard.namespace, shard.collection)
            known = self._collections.get(name)
            if shard.state == retriever_pb2.SHARD_STATE_GONE:
                if known is not None and known.generation == shard.generation:
                    self._forget(name, place, shard.shard)
                continue
            if known is None or not _is_of(known, shard):
                shards = [_Shard() for _ in range(shard.shards)]
                known = self._collections[name] = _Collection(shard.generation, shards)
            known.groups = None
            held = _Held(shard.state, shard.applied_seq)
            known.shards[shard.shard].note(place, held, now)

    def takes_writes(self, place: int, accepts: bool) -> None:
        if self._retrievers[place].accepts_writes != accepts:
            self._retrievers[place].accepts_writes = accepts
            self._connections_changed()

    def lost(self, place: int) -> None:
        """It cannot be heard any more; what it has it may have still."""
        if self._retrievers[place].connected:
            self._retrievers[place].connected = False
            self._connections_changed()

    def older(self, place: int) -> None:
        self._retrievers[place] = _Retriever(older=True)
        for name in list(self._collections):
            self._forget(name, place)
        self._connections_changed()

    def _connections_changed(self) -> None:
        self.present = frozenset(
            place for place, item in enumerate(self._retrievers) if item.connected or item.older
        )
        self.writers = frozenset(
            place
            for place, item in enumerate(self._retrievers)
            if item.connected and item.accepts_writes
        )
        for collection in self._collections.values():
            collection.groups = None

    def _forget(self, name: Name, place: int, only: int | None = None) -> None:
        known = self._collections[name]
        known.groups = None
        for number, shard in enumerate(known.shards):
            if only in (None, number):
                shard.held.pop(place, None)
        if not any(shard.held for shard in known.shards):
            del self._collections[name]

    def _grouped(self, shards: Iterable[_Shard]) -> tuple[Group, ...]:
        together: dict[frozenset[int], list[int]] = {}
        for number, shard in enumerate(shards):
            together.setdefault(self._holders(shard), []).append(number)
        return tuple(Group(tuple(of), holders) for holders, of in together.items())

    def _holders(self, shard: _Shard) -> frozenset[int]:
        """Whom to ask for it: the best there are."""
        older = {place for place, item in enumerate(self._retrievers) if item.older}
        ready = shard.places(retriever_pb2.SHARD_STATE_READY)
        reached = {place for place in ready if self._retrievers[place].connected}
        fresh = {place for place in reached if not shard.behind(place)}
        draining = shard.places(retriever_pb2.SHARD_STATE_DRAINING)
        # Who leaves a shard answers, and who has taken it over may be gone again.
        leaving = {place for place in draining if self._retrievers[place].connected}
        for chosen in (fresh | older, reached, leaving, ready, draining, set(shard.held)):
            if chosen:
                return frozenset(chosen)
        # Those of which nothing is known, else whoever: the answer says that it is not there.
        unheard = {place for place, item in enumerate(self._retrievers) if not item.heard}
        return frozenset(unheard or range(len(self._retrievers)))


def _is_of(known: _Collection, shard: retriever_pb2.ShardAnnouncement) -> bool:
    """One of another generation takes the place of what was there; who is behind says what was
    before, for a moment, and is heard again when it is not."""
    return known.generation == shard.generation and len(known.shards) == shard.shards
