"""Shards that come and go as the membership of the store changes, without a gap.

Whoever is to have a shard opens it and says in the store when it is ready. Whoever had it goes on
to answer from it until all who are to have it have said so; then it announces that it leaves,
answers for some time more, and removes its files when no search needs them.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Gauge

from services.cluster.placement import ShardGroup
from services.retriever.announcements import AnnouncedState, is_whole, state_of
from services.retriever.catalog import Catalog
from services.retriever.open_collection import OpenCollection
from services.retriever.shard import Shard
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.group_commit import ShardKey
from services.retriever.store.interface import SharedStore
from services.retriever.store.records import Collection
from sirdar.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MOVED = Counter(
    "sirdar_retriever_shards_moved_total",
    "Shards that came to this retriever, or went from it, as the members changed.",
    ("direction",),
)
for _direction in ("in", "out"):
    MOVED.labels(_direction)
MOVING = Gauge(
    "sirdar_retriever_moving_shards",
    "Shards that are opened here for a move, or that others are to have in this one's place.",
)
UNDER_REPLICATED = Gauge(
    "sirdar_retriever_under_replicated_shards",
    "Shards of the store, whoever has them, that fewer retrievers than `replication` have said "
    "to be ready with.",
)
DRAINING = Gauge(
    "sirdar_retriever_draining_members",
    "Members of the store that are to have no shards, until they are removed or let in again.",
)

# A look at 4,000 shards takes 4 ms: a fiftieth of one core.
_LOOK_SECONDS = 0.2
_MEASURE_SECONDS = 5.0
_FAULT_PAUSE_SECONDS = 5.0
_MAX_ARRIVING = 16


class _Arrival(NamedTuple):
    """A shard, and what was known of its collection when it was prepared."""

    shard: Shard
    collection: Collection


class _Noting(NamedTuple):
    shards: frozenset[ShardKey]
    ready: bool
    done: Future[None]


class Moves:
    """Called by the follower's thread; one of its own prepares what comes and removes what has
    gone."""

    def __init__(
        self,
        name: str,
        store: SharedStore,
        catalog: Catalog,
        *,
        is_building: Callable[[Shard], bool],
        snapshots: Snapshots,
        farewell_seconds: float,
    ) -> None:
        self._name = name
        self._store = store
        self._catalog = catalog
        self._is_building = is_building
        self._snapshots = snapshots
        self._farewell_seconds = farewell_seconds
        self._pool = ThreadPoolExecutor(1, "moves")
        self._version: int | None = None
        self._wanted: dict[int, frozenset[int]] = {}
        self._arriving: dict[ShardKey, Future[_Arrival]] = {}
        # Here, and not whole yet.
        self._filling: list[Shard] = []
        # What the store has been told.
        self._noted: frozenset[ShardKey] = frozenset()
        self._noting: _Noting | None = None
        self._giving: Future[list[ShardKey]] | None = None
        # Since when each is announced to leave.
        self._leaving: dict[Shard, float] = {}
        # Taken away, with files that a search may need.
        self._closing: list[Shard] = []
        self._due = self._measured = self._faulty_until = 0.0

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def deleted(self, collection: OpenCollection) -> None:
        """It is gone from the store, whoever deleted it: so are the snapshots taken here."""
        self._snapshots.forget(
            collection.namespace, collection.name, collection.generation, self._store
        )

    def step(self) -> None:
        """Raises SirdarError where the store cannot be asked."""
        now = time.monotonic()
        membership = self._store.membership()
        if membership.version == self._version and now < self._due:
            return
        self._due = now + _LOOK_SECONDS
        if membership.version != self._version:
            self._version = membership.version
            self._wanted.clear()
            DRAINING.set(len(membership.members) - len(membership.active))
            self._warn()
        self._add()
        # With what was added.
        collections = self._catalog.all()
        self._open(collections, now)
        self._note(collections)
        self._give_up(collections)
        self._take_away(now)
        self._measure(collections, now)

    def _warn(self) -> None:
        membership = self._store.membership()
        if self._name not in membership.active:
            log.warning("this retriever is to have no shards: it drains, or is no member")
        if len(membership.active) < membership.replication:
            log.warning(
                "fewer retrievers than each shard is to be on: all of them have all shards",
                retrievers=len(membership.active),
                replication=membership.replication,
            )

    def _owned(self, collection: OpenCollection) -> frozenset[int]:
        key = collection.generation.key
        if key not in self._wanted:
            placement = self._store.membership().placement
            self._wanted[key] = placement.owned(
                self._name, _group(collection), collection.generation.shards
            )
        return self._wanted[key]

    def _open(self, collections: list[OpenCollection], now: float) -> None:
        """Has what is to be here and is not prepared; what has just gone only after its files."""
        closing = {_key(shard) for shard in self._closing}
        for collection in collections:
            here = {shard.number for shard in collection.shards}
            for number in sorted(self._owned(collection) - here):
                key = (collection.generation.key, number)
                if len(self._arriving) >= _MAX_ARRIVING or now < self._faulty_until:
                    return
                if key not in self._arriving and key not in closing:
                    self._arriving[key] = self._pool.submit(self._prepare, collection, number)

    def _prepare(self, opened: OpenCollection, number: int) -> _Arrival:
        collection = self._store.collection(opened.namespace, opened.name)
        if collection.generation.key != opened.generation.key:
            raise NotFound("the collection was made anew", reason="COLLECTION_NOT_FOUND")
        return _Arrival(self._catalog.prepare(collection, number, self._store), collection)

    def _add(self) -> None:
        """To those that are replayed, what has been prepared; to those that answer, what is whole
        by now."""
        for key, future in list(self._arriving.items()):
            if not future.done():
                continue
            del self._arriving[key]
            error = future.exception()
            if error is not None:
                log.warning("a shard cannot be opened yet", shard=key[1], error=str(error))
                self._faulty_until = time.monotonic() + _FAULT_PAUSE_SECONDS
                continue
            shard, collection = future.result()
            opened = self._catalog.of_generation(key[0])
            if opened is None:
                self._pool.submit(self._catalog.forget, shard)
                continue
            if opened.schema != collection.schema:
                shard.make_columns(opened.schema, collection.lexical.language, self._store)
            self._catalog.add(shard)
            self._filling.append(shard)
        for shard in list(self._filling):
            if shard.dropped or is_whole(shard):
                self._filling.remove(shard)
                shard.elsewhere = False
                self._catalog.on_news()
                MOVED.labels("in").inc()

    def _note(self, collections: list[OpenCollection]) -> None:
        """Tells the store what has become ready, or is no more; not while something is given up,
        which must not be noted after it."""
        noting = self._noting
        if noting is not None:
            if not noting.done.done():
                return
            self._noting = None
            if noting.done.exception() is None:
                self._noted = (
                    self._noted | noting.shards if noting.ready else self._noted - noting.shards
                )
        if self._giving is not None:
            return
        ready = frozenset(
            _key(shard)
            for collection in collections
            for shard in collection.shards
            if state_of(shard) is AnnouncedState.READY
        )
        for shards, is_ready in ((ready - self._noted, True), (self._noted - ready, False)):
            if shards:
                done = self._store.note(self._name, sorted(shards), ready=is_ready)
                self._noting = _Noting(shards, is_ready, done)
                return

    def _give_up(self, collections: list[OpenCollection]) -> None:
        """What is not to be here, as soon as all who are to have it are ready."""
        if self._giving is not None:
            if not self._giving.done():
                return
            given, self._giving = self._giving, None
            if given.exception() is None:
                self._leave(collections, set(given.result()))
        if self._noting is not None:
            return
        placement = self._store.membership().placement
        owners = {
            _key(shard): frozenset(placement.owners(_group(collection), shard.number))
            for collection in collections
            for shard in collection.shards
            if shard.number not in self._owned(collection) and not shard.leaving
        }
        if owners and placement.retrievers and self._version is not None:
            there = self._store.ready(list(owners))
            able = {key: names for key, names in owners.items() if names <= there.get(key, set())}
            if able:
                self._giving = self._store.give_up(self._name, self._version, able)

    def _leave(self, collections: list[OpenCollection], given: set[ShardKey]) -> None:
        for collection in collections:
            for shard in collection.shards:
                if _key(shard) in given:
                    shard.leaving = True
                    self._leaving[shard] = time.monotonic()
        self._noted -= given
        self._catalog.on_news()

    def _take_away(self, now: float) -> None:
        for shard, since in list(self._leaving.items()):
            if shard.dropped:
                # With its collection.
                del self._leaving[shard]
            elif now - since >= self._farewell_seconds:
                del self._leaving[shard]
                self._catalog.take_away(shard)
                self._closing.append(shard)
                MOVED.labels("out").inc()
        for shard in list(self._closing):
            if shard.searches:
                continue
            shard.dropped = True
            if not self._is_building(shard):
                self._closing.remove(shard)
                self._pool.submit(self._catalog.forget, shard)

    def _measure(self, collections: list[OpenCollection], now: float) -> None:
        leaving = sum(
            shard.number not in self._owned(collection)
            for collection in collections
            for shard in collection.shards
        )
        MOVING.set(leaving + len(self._arriving))
        if now - self._measured >= _MEASURE_SECONDS:
            self._measured = now
            UNDER_REPLICATED.set(self._store.under_replicated())


def _key(shard: Shard) -> ShardKey:
    return shard.generation.key, shard.number


def _group(collection: OpenCollection) -> ShardGroup:
    return ShardGroup(collection.namespace, collection.name, collection.generation.number)
