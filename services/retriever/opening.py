"""Opening a retriever: its parts made, wired together, and closed in their order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.retriever.catalog import Catalog
from services.retriever.data_folder import DataFolder, own
from services.retriever.lexical.indexer import Indexer
from services.retriever.lexical.search import LexicalSearcher
from services.retriever.ownership import Ownership
from services.retriever.recall.auditor import Auditor
from services.retriever.retriever import Background, Retriever
from services.retriever.sealer import Sealer
from services.retriever.search import Searcher
from services.retriever.settings import RetrieverSettings
from services.retriever.showing import Owning, Showing
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.retention import writer_of
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.interface import Store
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.sweeper import Sweeper
from services.runtime.cpu import available_cpus

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What a retriever is made of, whoever writes its store."""

    sealer: Sealer
    indexer: Indexer
    auditor: Auditor
    snapshots: Snapshots
    catalog: Catalog

    @staticmethod
    def of(
        settings: RetrieverSettings, folder: DataFolder, ownership: Ownership | None = None
    ) -> "Parts":
        sealer = Sealer(build_threads=settings.build_threads)
        indexer = Indexer(
            max_writers=settings.max_lexical_writers,
            max_readers=settings.max_lexical_readers,
            max_waiting_bytes=settings.max_waiting_lexical_bytes,
        )
        auditor = Auditor(cpus=available_cpus())
        location = SnapshotLocation(settings.snapshot_url) if settings.snapshot_url else None
        snapshots = Snapshots(location, kept=settings.snapshots_kept, writer=writer_of(folder.path))
        catalog = Catalog(
            folder.segments,
            sealer,
            indexer,
            seal_vectors=settings.seal_vectors,
            auditor=auditor,
            snapshots=snapshots,
            ownership=ownership,
        )
        return Parts(sealer, indexer, auditor, snapshots, catalog)

    def start(self, store: Store) -> None:
        self.sealer.start()
        self.auditor.start()
        self.indexer.start(store)


@dataclass(frozen=True, slots=True)
class Searching:
    """What answers, over the parts and a store. Closed by its parts."""

    searcher: Searcher
    words: LexicalSearcher
    retriever: Retriever
    snapshots: Snapshots

    @staticmethod
    def of(
        settings: RetrieverSettings,
        parts: Parts,
        store: Store,
        showing: Showing,
        catch_up: Callable[[], None] = lambda: None,
    ) -> "Searching":
        searcher = Searcher(
            store,
            threads=settings.search_threads,
            faiss_threads=settings.faiss_threads,
            max_waiting=settings.max_waiting_searches,
            auditor=parts.auditor,
            catch_up=catch_up,
        )
        words = LexicalSearcher(
            store,
            parts.indexer,
            threads=settings.lexical_search_threads,
            max_waiting=settings.max_waiting_searches,
        )
        background = Background(parts.indexer, parts.auditor, parts.snapshots, showing)
        retriever = Retriever(store, parts.catalog, searcher, words, background, settings)
        return Searching(searcher, words, retriever, parts.snapshots)


@asynccontextmanager
async def open_retriever(settings: RetrieverSettings) -> AsyncIterator[Retriever]:
    """A retriever over its data folder: shards opened and replayed inside the block.

    Raises FailedPrecondition, DataLoss when the folder cannot be served.
    """
    with own(settings.data_folder) as folder:
        parts = Parts.of(settings, folder)
        store = SqliteStore(
            folder.database, parts.catalog.apply, max_waiting_bytes=settings.max_waiting_write_bytes
        )
        searching = Searching.of(settings, parts, store, Owning(parts.catalog, store))
        retriever = searching.retriever
        sweeper = Sweeper(store, tombstones_kept_seconds=settings.tombstones_kept_seconds)
        try:
            started = time.monotonic()
            await retriever.in_thread(lambda: parts.catalog.open_all(store))
            log.info(
                "opened",
                data_folder=str(folder.path),
                collections=len(parts.catalog.all()),
                seconds=round(time.monotonic() - started, 3),
            )
            parts.start(store)
            parts.snapshots.start(settings.snapshot_interval_seconds, retriever.snapshot_all)
            sweeper.start()
            yield retriever
        finally:
            await asyncio.to_thread(close, sweeper, parts, searching, store)


def close(source: "Closes", parts: Parts, searching: Searching, store: Store) -> None:
    """Those who use something come before it; `source` is where changes come from."""
    order: tuple[Closes, ...] = (
        parts.snapshots,
        source,
        searching.searcher,
        parts.auditor,
        searching.words,
        parts.sealer,
        searching.retriever,
        parts.indexer,
        store,
    )
    for part in order:
        part.close()


class Closes(Protocol):
    def close(self) -> None: ...
