"""Opening a retriever on a store that it shares with others: each writes, and follows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

from services.retriever.data_folder import own
from services.retriever.replica.follower import Follower
from services.retriever.replica.opening import check_folder, follow_store
from services.retriever.retriever import Retriever
from services.retriever.settings import RetrieverSettings
from services.retriever.store.interface import FollowedStore
from services.retriever.sweeper import Sweeper
from sirdar.errors import FailedPrecondition


@asynccontextmanager
async def open_shared(settings: RetrieverSettings) -> AsyncIterator[tuple[Retriever, Follower]]:
    """A retriever over the PostgreSQL database of `settings.store`: all that any of those who
    share it committed is shown inside the block.

    Raises FailedPrecondition when the folder or the database cannot be used,
    Unavailable when the database cannot be reached.
    """
    with own(settings.data_folder) as folder:
        check_folder(folder)
        nudged = Event()
        store = await asyncio.to_thread(_store, settings, nudged)
        async with follow_store(settings, folder, store, nudged) as (searching, follower):
            retriever, snapshots = searching.retriever, searching.snapshots
            snapshots.start(settings.snapshot_interval_seconds, retriever.snapshot_all)
            sweeper = Sweeper(store)
            sweeper.start()
            try:
                yield retriever, follower
            finally:
                await asyncio.to_thread(sweeper.close)


def _store(settings: RetrieverSettings, nudged: Event) -> FollowedStore:
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
