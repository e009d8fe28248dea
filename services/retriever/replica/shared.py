"""Opening a retriever on a store that it shares with others: each writes, and follows."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event
from typing import NamedTuple

from services.retriever.data_folder import own
from services.retriever.opening import Parts
from services.retriever.ownership import Placed
from services.retriever.replica.follower import Follower
from services.retriever.replica.moves import Moves
from services.retriever.replica.opening import Cluster, check_folder, follow_store
from services.retriever.retriever import Retriever
from services.retriever.settings import RetrieverSettings
from services.retriever.store.interface import SharedStore
from services.retriever.sweeper import Sweeper
from sirdar.errors import FailedPrecondition


class Shared(NamedTuple):
    retriever: Retriever
    follower: Follower
    store: SharedStore


@asynccontextmanager
async def open_shared(settings: RetrieverSettings) -> AsyncIterator[Shared]:
    """A retriever over the PostgreSQL database of `settings.store`: all that any of those who
    share it committed is shown inside the block.

    Raises FailedPrecondition when the folder or the database cannot be used, or others share it
    with another replication,
    Unavailable when the database cannot be reached.
    """
    with own(settings.data_folder) as folder:
        check_folder(folder)
        nudged = Event()
        store, cluster = await asyncio.to_thread(_joined, settings, nudged)
        async with follow_store(settings, folder, store, nudged, cluster) as opened:
            searching, follower = opened
            retriever, snapshots = searching.retriever, searching.snapshots
            snapshots.start(settings.snapshot_interval_seconds, retriever.snapshot_all)
            sweeper = Sweeper(store, tombstones_kept_seconds=settings.tombstones_kept_seconds)
            sweeper.start()
            try:
                yield Shared(retriever, follower, store)
            finally:
                await asyncio.to_thread(sweeper.close)


def _joined(settings: RetrieverSettings, nudged: Event) -> tuple[SharedStore, Cluster]:
    """The store, with this one among its members."""
    store = _store(settings, nudged)
    try:
        store.register(settings.name, settings.replication).result()
        return store, _cluster(settings, store)
    except BaseException:
        store.close()
        raise


def _cluster(settings: RetrieverSettings, store: SharedStore) -> Cluster:
    held: dict[int, set[int]] = defaultdict(set)
    for key, shard in store.held(settings.name):
        held[key].add(shard)
    ownership = Placed(
        settings.name, store.membership, {key: frozenset(item) for key, item in held.items()}
    )

    def moves(parts: Parts) -> Moves:
        return Moves(
            settings.name,
            store,
            parts.catalog,
            is_building=parts.sealer.is_building,
            snapshots=parts.snapshots,
            farewell_seconds=settings.farewell_seconds,
        )

    return Cluster(ownership, moves)


def _store(settings: RetrieverSettings, nudged: Event) -> SharedStore:
    try:
        from services.retriever.store.postgres.address import Address  # noqa: PLC0415
        from services.retriever.store.postgres.store import PostgresStore  # noqa: PLC0415
    except ImportError as error:
        raise FailedPrecondition(
            f"a store in PostgreSQL needs more to be installed ({error.name} is missing): "
            "pip install 'sirdar-server[retriever,postgres]'",
            reason="NOT_INSTALLED",
        ) from error
    return PostgresStore(
        Address(settings.store.get_secret_value(), settings.store_schema, settings.store_cluster),
        # What was written here is read from the store's log like all else: the writes of others
        # may come before it.
        lambda _: nudged.set(),
        max_waiting_bytes=settings.max_waiting_write_bytes,
        connections=settings.store_connections,
    )
