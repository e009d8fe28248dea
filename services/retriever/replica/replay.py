"""Bringing the indexes of a replica to where the store is, a step at a time."""

import time
from collections.abc import Callable, Iterator

import structlog

from services.retriever.catalog import Catalog
from services.retriever.open_collection import OpenCollection
from services.retriever.replica.lag import Lag
from services.retriever.replica.moves import Moves
from services.retriever.shard import Shard, ShardState
from services.retriever.shard_log import miss_no_deletion
from services.retriever.store.interface import FollowedStore
from services.retriever.store.records import Change, Head
from services.retriever.store.tombstones import TombstonesPurged
from sirdar.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# What one read of the log takes: as long as it runs the store's own log cannot be cut back, and
# the other shards wait.
_STEP_CHANGES = 1000
_STEP_BYTES = 8 * 2**20


class Replay:
    """Called by one thread. `has_room`: whether a shard may take more, as its index is built fast
    enough. `moves`: what makes shards come and go; None: they stay."""

    def __init__(
        self,
        store: FollowedStore,
        catalog: Catalog,
        has_room: Callable[[Shard], bool],
        moves: Moves | None = None,
    ) -> None:
        self.behind: set[int] = set()
        """The generations that do not show yet all that was committed before the last step."""
        self._store = store
        self._catalog = catalog
        self._has_room = has_room
        self._lag = Lag(catalog.of_generation)
        self._revision: int | None = None
        self._caught_up = False
        # When each of the collections that are open was last updated.
        self._open: dict[int, int] = {}
        self._moves = moves
        # Whether a shard with much to read has had its turn in this step.
        self._read_much = False

    def close(self) -> None:
        if self._moves is not None:
            self._moves.close()

    def step(self, *, certain: bool = False) -> bool:
        """Follows the store as it is now, or with less than `certain` as it was told to be.
        Afterwards all its collections are known, and each shard that was behind has applied some
        more; answers whether any has."""
        started = time.monotonic()
        revision = self._store.revision(certain=certain)
        moved = self._read_much = False
        if revision != self._revision or self.behind:
            heads = self._store.heads()
            self._follow_definitions({head.generation_key: head for head in heads})
            for head in heads:
                moved = self._follow(head) or moved
            self._revision = revision
        # Whoever is told of a shard that is ready may ask for it.
        if self._moves is not None and self.caught_up():
            self._moves.step()
        self._lag.checked(self.behind, started)
        return moved

    def caught_up(self) -> bool:
        """Whether searches of vectors and of words have shown all that there was at some time;
        words that cannot be written are not waited for."""
        if not self._caught_up:
            shards = [shard for opened in self._opened() for shard in opened.shards]
            words = [shard.lexical for shard in shards if shard.lexical]
            self._caught_up = all(
                shard.state is not ShardState.OPENING for shard in shards
            ) and all(item.ready or item.retry_seconds for item in words)
        return self._caught_up

    def _opened(self) -> Iterator[OpenCollection]:
        return filter(None, map(self._catalog.of_generation, list(self._open)))

    def _follow_definitions(self, heads: dict[int, Head]) -> None:
        for collection in self._opened():
            head = heads.get(collection.generation.key)
            if head is None:
                self._forget(collection)
                if self._moves is not None:
                    self._moves.deleted(collection)
            elif _is_of_another_past(collection, head):
                self._forget(collection)
        changed = [key for key, head in heads.items() if self._open.get(key) != head.updated_ns]
        if not changed:
            return
        definitions = {item.generation.key: item for item in self._store.all_collections()}
        for key in changed:
            if key not in definitions:
                # Deleted since; the next step has no head of it.
                continue
            definition = definitions[key]
            if key in self._open:
                self._catalog.update(definition, self._store)
            else:
                try:
                    collection = self._catalog.open(definition, self._store, replayed=False)
                except NotFound:
                    continue
                self._show_new(collection)
            self._open[key] = heads[key].updated_ns

    def _show_new(self, collection: OpenCollection) -> None:
        self._lag.publish(collection)
        if self._caught_up:
            # It was made a moment ago: who asks for its words waits, and is not told that there
            # are none.
            for shard in collection.shards:
                if shard.lexical is not None:
                    shard.lexical.show_at_once()

    def _forget(self, collection: OpenCollection) -> None:
        log.info("a collection is gone", namespace=collection.namespace, name=collection.name)
        del self._open[collection.generation.key]
        self.behind.discard(collection.generation.key)
        self._lag.forget(collection)
        self._catalog.remove(collection.namespace, collection.name)

    def _follow(self, head: Head) -> bool:
        """Whether any shard has applied more."""
        collection = self._catalog.of_generation(head.generation_key)
        if collection is None:
            return False
        collection.note_committed(enumerate(head.seqs))
        goals = _goals(collection, head)
        for shard, seq in goals:
            shard.committed_seq = max(shard.committed_seq, seq)
        moved = [
            self._apply(collection, shard, seq)
            for shard, seq in goals
            if not _shows(shard, seq) and self._has_room(shard) and self._has_turn(shard, seq)
        ]
        if all(_shows(shard, seq) for shard, seq in goals):
            self.behind.discard(head.generation_key)
        else:
            self.behind.add(head.generation_key)
        return any(moved)

    def _has_turn(self, shard: Shard, seq: int) -> bool:
        """One at a time of those that have moved here is read whole: searches do not wait for
        it, and reads that ask for what was just written wait for a step of all."""
        if not self._caught_up or shard.state is not ShardState.OPENING:
            return True
        if seq - shard.replayed_seq <= _STEP_CHANGES:
            return True
        mine = not self._read_much
        self._read_much = True
        return mine

    def _apply(self, collection: OpenCollection, shard: Shard, seq: int) -> bool:
        changes, all_of_them = self._read(shard)
        if changes:
            self._catalog.replay(collection, shard, changes, seq, whole=all_of_them)
        if all_of_them and shard.state is not ShardState.FAILED:
            # Everything up to `seq` was there to be read.
            shard.ready(seq)
        return True

    def _read(self, shard: Shard) -> tuple[list[Change], bool]:
        """The next changes of a shard, and whether there are no more."""
        changes: list[Change] = []
        size = 0
        try:
            for change in self._store.changes(
                shard.generation, shard.number, shard.replayed_seq, shard.purged_seq
            ):
                changes.append(change)
                size += change.vectors.nbytes + len(change.metadata)
                if len(changes) == _STEP_CHANGES or size >= _STEP_BYTES:
                    return changes, False
        except TombstonesPurged as error:
            # What was read is read again: some of it may be gone.
            miss_no_deletion(shard, self._store, error)
            return [], False
        return changes, True


def _shows(shard: Shard, seq: int) -> bool:
    """One that failed shows nothing any more, until a restart."""
    if shard.state is ShardState.FAILED:
        return True
    return shard.state is ShardState.READY and shard.view.applied_seq >= seq


def _is_of_another_past(collection: OpenCollection, head: Head) -> bool:
    """Sequences only grow, unless the store became what it was before."""
    return any(seq < shard.replayed_seq for shard, seq in _goals(collection, head))


def _goals(collection: OpenCollection, head: Head) -> list[tuple[Shard, int]]:
    """The shards that are here, and how far each is to come."""
    return [(shard, head.seqs[shard.number]) for shard in collection.shards]
