"""Opening a retriever: its parts made, wired together, and closed in their order."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from services.retriever.catalog import Catalog
from services.retriever.data_folder import own
from services.retriever.lexical.indexer import Indexer
from services.retriever.lexical.search import LexicalSearcher
from services.retriever.recall.auditor import Auditor
from services.retriever.retriever import Background, Retriever
from services.retriever.sealer import Sealer
from services.retriever.search import Searcher
from services.retriever.settings import RetrieverSettings
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.sweeper import Sweeper
from services.runtime.cpu import available_cpus

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@asynccontextmanager
async def open_retriever(settings: RetrieverSettings) -> AsyncIterator[Retriever]:
    """A retriever over its data folder: shards opened and replayed inside the block.

    Raises FailedPrecondition, DataLoss when the folder cannot be served.
    """
    with own(settings.data_folder) as folder:
        sealer = Sealer(build_threads=settings.build_threads)
        indexer = Indexer(
            max_writers=settings.max_lexical_writers,
            max_readers=settings.max_lexical_readers,
            max_waiting_bytes=settings.max_waiting_lexical_bytes,
        )
        auditor = Auditor(cpus=available_cpus())
        location = SnapshotLocation(settings.snapshot_url) if settings.snapshot_url else None
        snapshots = Snapshots(location, kept=settings.snapshots_kept)
        catalog = Catalog(
            folder.segments,
            sealer,
            indexer,
            seal_vectors=settings.seal_vectors,
            auditor=auditor,
            snapshots=snapshots,
        )
        store = SqliteStore(
            folder.database, catalog.apply, max_waiting_bytes=settings.max_waiting_write_bytes
        )
        searcher = Searcher(
            store,
            threads=settings.search_threads,
            faiss_threads=settings.faiss_threads,
            max_waiting=settings.max_waiting_searches,
            auditor=auditor,
        )
        words = LexicalSearcher(
            store,
            indexer,
            threads=settings.lexical_search_threads,
            max_waiting=settings.max_waiting_searches,
        )
        sweeper = Sweeper(store)
        background = Background(indexer, auditor, snapshots)
        retriever = Retriever(store, catalog, searcher, words, background, settings)
        try:
            started = time.monotonic()
            await retriever.in_thread(lambda: catalog.open_all(store))
            log.info(
                "opened",
                data_folder=str(folder.path),
                collections=len(catalog.all()),
                seconds=round(time.monotonic() - started, 3),
            )
            sealer.start()
            auditor.start()
            snapshots.start(settings.snapshot_interval_seconds, retriever.snapshot_all)
            indexer.start(store)
            sweeper.start()
            yield retriever
        finally:
            await asyncio.to_thread(
                _close,
                snapshots,
                sweeper,
                searcher,
                auditor,
                words,
                sealer,
                retriever,
                indexer,
                store,
            )


class _Closes(Protocol):
    def close(self) -> None: ...


def _close(*parts: _Closes) -> None:
    """Those who use something come before it."""
    for part in parts:
        part.close()
