"""Opening a retriever on a store that it shares with others: each writes, and follows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

import structlog

from services.retriever.data_folder import own
from services.retriever.ownership import Placed
from services.retriever.replica.follower import Follower
from services.retriever.replica.opening import check_folder, follow_store
from services.retriever.retriever import Retriever
from services.retriever.settings import RetrieverSettings
from services.retriever.store.interface import SharedStore
from services.retriever.sweeper import Sweeper
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@asynccontextmanager
async def open_shared(settings: RetrieverSettings) -> AsyncIterator[tuple[Retriever, Follower]]:
    """A retriever over the PostgreSQL database of `settings.store`: all that any of those who
    share it committed is shown inside the block.

    Raises FailedPrecondition when the folder or the database cannot be used, or others share it
    with another replication,
    Unavailable when the database cannot be reached.
    """
    with own(settings.data_folder) as folder:
        check_folder(folder)
        nudged = Event()
        store = await asyncio.to_thread(_joined, settings, nudged)
        ownership = Placed(settings.name, store.membership)
        async with follow_store(settings, folder, store, nudged, ownership) as opened:
            searching, follower = opened
            retriever, snapshots = searching.retriever, searching.snapshots
            snapshots.start(settings.snapshot_interval_seconds, retriever.snapshot_all)
            sweeper = Sweeper(store, tombstones_kept_seconds=settings.tombstones_kept_seconds)
            sweeper.start()
            try:
                yield retriever, follower
            finally:
                await asyncio.to_thread(sweeper.close)


def _joined(settings: RetrieverSettings, nudged: Event) -> SharedStore:
    """The store, with this one among its members."""
    store = _store(settings, nudged)
    try:
        membership = store.register(settings.name, settings.replication).result()
    except BaseException:
        store.close()
        raise
    if settings.name not in membership.active:
        log.warning("this retriever is draining: it gets no shards", name=settings.name)
    if len(membership.active) < membership.replication:
        log.warning(
            "fewer retrievers than each shard is to be on: all of them have all shards",
            retrievers=len(membership.active),
            replication=membership.replication,
        )
    return store


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
