"""Opening a read replica: it has a data folder of its own, and no store."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from threading import Event

import structlog

from services.retriever.data_folder import DataFolder, own
from services.retriever.durable_files import write_durably
from services.retriever.opening import Parts, Searching, close
from services.retriever.ownership import Ownership
from services.retriever.replica.follower import Follower
from services.retriever.replica.moves import Moves
from services.retriever.replica.replay import Replay
from services.retriever.retriever import Retriever
from services.retriever.settings import RetrieverSettings
from services.retriever.shard import Shard
from services.retriever.showing import Following
from services.retriever.store.interface import FollowedStore
from services.retriever.store.sqlite.followed import FollowedSqliteStore, await_store
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_PAST = "FOLLOWS"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a member of one needs more: which shards are its own when it opens, and what moves
    them later."""

    ownership: Ownership
    moves: Callable[[Parts], Moves]


@asynccontextmanager
async def open_replica(
    settings: RetrieverSettings, follow: Path
) -> AsyncIterator[tuple[Retriever, Follower]]:
    """A replica of the retriever whose data folder is `follow`: all that was committed is shown
    inside the block. Waits for as long as there is no store yet.

    Raises FailedPrecondition when a folder cannot be used.
    """
    with own(settings.data_folder) as folder:
        check_folder(folder)
        store = await _store(DataFolder(follow).database)
        async with follow_store(settings, folder, store, Event()) as (searching, follower):
            yield searching.retriever, follower


@asynccontextmanager
async def follow_store(
    settings: RetrieverSettings,
    folder: DataFolder,
    store: FollowedStore,
    nudged: Event,
    cluster: Cluster | None = None,
) -> AsyncIterator[tuple[Searching, Follower]]:
    """What answers over a store that others write: all that was committed is shown inside the
    block. Closes the store."""

    def has_room(shard: Shard) -> bool:
        return (
            shard.full_segments < settings.max_full_segments
            and shard.unsealed_rows < settings.max_unsealed_vectors
        )

    _keep_past(folder, store)
    parts = Parts.of(settings, folder, cluster.ownership if cluster else None)
    moves = cluster.moves(parts) if cluster else None
    follower = Follower(Replay(store, parts.catalog, has_room, moves), nudged)
    showing = Following(follower)
    searching = Searching.of(settings, parts, store, showing, follower.catch_up)
    try:
        started = time.monotonic()
        await searching.retriever.in_thread(lambda: parts.catalog.remove_strangers(store))
        # What is replayed is sealed as it comes, which bounds the memory that it takes.
        parts.start(store)
        follower.start()
        await asyncio.wrap_future(follower.complete())
        log.info(
            "caught up",
            data_folder=str(folder.path),
            collections=len(parts.catalog.all()),
            seconds=round(time.monotonic() - started, 3),
        )
        yield searching, follower
    finally:
        await asyncio.to_thread(close, follower, parts, searching, store)


async def _store(file: Path) -> FollowedStore:
    closing = Event()
    try:
        await asyncio.to_thread(await_store, file, closing)
    finally:
        closing.set()
    return FollowedSqliteStore(file)


def check_folder(folder: DataFolder) -> None:
    if folder.database.exists():
        raise FailedPrecondition(
            f"{folder.path} is the data folder of a retriever that writes its own database; give "
            "this one another",
            reason="BAD_DATA_FOLDER",
        )


def _keep_past(folder: DataFolder, store: FollowedStore) -> None:
    """Indexes over another store, or over this one as it was before a backup took its place, are
    removed: sequences there say something else."""
    file, past = folder.path / _PAST, store.past()
    if file.exists() and file.read_text() == past:
        return
    if folder.segments.exists():
        log.warning("the indexes are of another store and built again", folder=str(folder.path))
        rmtree(folder.segments)
    write_durably(file, past.encode())
