"""The retriever itself: store, opened collections and searches put together."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TypeVar

from services.retriever.catalog import Catalog
from services.retriever.deliveries import Deliveries
from services.retriever.filters.conditions import Condition
from services.retriever.filters.deletion import FilterDeletion, delete_matching
from services.retriever.index_trial import check as check_index
from services.retriever.lexical.indexer import Indexer
from services.retriever.lexical.search import LexicalSearcher, WordAnswer, WordSearch
from services.retriever.open_collection import OpenCollection
from services.retriever.pacing import WritePace
from services.retriever.passage_search import (
    Consistency,
    CoveredAnswer,
    PassageSearch,
    check_seen,
)
from services.retriever.recall.auditor import Auditor
from services.retriever.search import SearchAnswer, Searcher, SearchRequest
from services.retriever.settings import RetrieverSettings
from services.retriever.shard import Shard, ShardState, in_use
from services.retriever.showing import Showing
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.snapshots.taking import Snapshot
from services.retriever.store.interface import Store
from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Deletion,
    DocumentPage,
    DocumentPatch,
    DocumentState,
    DocumentWrite,
    EmbeddedDocument,
    Generation,
    Passage,
    StoredDocument,
    WriteResult,
)
from services.runtime.deadline import deadline
from sirdar.errors import NotFound, ResourceExhausted, Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CollectionPosition:
    """One sequence a shard: the last that is committed, and the last that searches see, 0 where
    the shard is not here; of the collection and the opening of the store that `identity` tells
    from all others."""

    identity: str
    committed_seqs: tuple[int, ...]
    applied_seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Background:
    """What goes on beside the calls."""

    indexer: Indexer
    auditor: Auditor
    snapshots: Snapshots
    showing: Showing


class Retriever:
    """What the servicer calls. Everything that blocks runs in threads."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        searcher: Searcher,
        words: LexicalSearcher,
        background: Background,
        settings: RetrieverSettings,
    ) -> None:
        self.catalog = catalog
        self.auditor = background.auditor
        self._snapshots = background.snapshots
        self._showing = background.showing
        self._store = store
        self._searcher = searcher
        self._deliveries = Deliveries()
        self._pace = WritePace()
        self._words = words
        self._indexer = background.indexer
        self._max_lexical_behind = settings.max_lexical_behind
        self._pool = ThreadPoolExecutor(settings.read_threads, "retriever-read")
        self._max_full_segments = settings.max_full_segments
        self._max_unsealed_vectors = settings.max_unsealed_vectors
        self._max_wait_seconds = settings.max_consistency_wait_seconds
        # Creating, updating and deleting change the store and the catalog, in this order, as one.
        self._collections_lock = Lock()

    def close(self) -> None:
        self._pool.shutdown()

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def create_collection(self, definition: CollectionDefinition) -> Collection:
        """Raises InvalidArgument when FAISS cannot make its index, AlreadyExists."""

        def create() -> Collection:
            check_index(definition.index_kind, definition.space.dimensions)
            with self._collections_lock:
                collection = self._store.create_collection(definition).result()
                self._showing.created(collection)
                return collection

        return await self.in_thread(create)

    async def delete_collection(self, namespace: str, name: str) -> None:
        def delete() -> None:
            with self._collections_lock:
                generation = self._store.delete_collection(namespace, name).result()
                self._showing.deleted(namespace, name)
                self._snapshots.forget(namespace, name, generation, self._store)

        await self.in_thread(delete)

    async def update_collection(
        self, namespace: str, name: str, update: CollectionUpdate
    ) -> Collection:
        def change() -> Collection:
            with self._collections_lock:
                collection = self._store.update_collection(namespace, name, update).result()
                self._showing.updated(collection)
                return collection

        return await self.in_thread(change)

    async def create_snapshot(self, opened: OpenCollection) -> Snapshot:
        """Of the shards that are here. Raises FailedPrecondition, ResourceExhausted, Unavailable,
        DataLoss."""
        collection = await self.collection(opened.namespace, opened.name)
        return await asyncio.wrap_future(
            self._snapshots.submit(collection, self._store, opened.shards)
        )

    def snapshot_all(self) -> None:
        """Of every collection in which something was sealed since the last one; of a shard that
        several have, one of them."""
        for collection in self._store.all_collections():
            with suppress(NotFound):
                opened = self.catalog.get(collection.namespace, collection.name)
                leads = self.catalog.ownership.leads(collection)
                shards = [item for item in opened.shards if item.number in leads]
                self._snapshots.take_changed(collection, self._store, shards)

    async def collection(self, namespace: str, name: str) -> Collection:
        return await self.in_thread(lambda: self._store.collection(namespace, name))

    async def collections(self, namespace: str, after: str, limit: int) -> list[Collection]:
        return await self.in_thread(lambda: self._store.collections(namespace, after, limit))

    async def write(
        self, collection: OpenCollection, writes: Sequence[DocumentWrite]
    ) -> list[WriteResult]:
        """Raises ResourceExhausted, also where building indexes is far behind."""
        if not writes:
            return []
        if any(self._is_behind(shard) for shard in collection.shards):
            raise ResourceExhausted(
                f"{collection.namespace}/{collection.name} grows faster than its index is built; "
                "send slower",
                reason="INDEX_BEHIND",
                retry_after=timedelta(seconds=1),
            )
        behind = (shard.lexical.behind for shard in collection.shards if shard.lexical)
        if max(behind, default=0) >= self._max_lexical_behind:
            raise ResourceExhausted(
                f"{collection.namespace}/{collection.name} grows faster than its words are "
                "indexed; send slower",
                reason="LEXICAL_BEHIND",
                retry_after=timedelta(seconds=1),
            )
        await self._slow_down(collection)
        return await asyncio.wrap_future(self._store.write_documents(collection.generation, writes))

    async def _slow_down(self, collection: OpenCollection) -> None:
        """Half of the time that the caller gives at most."""
        components = collection.unsealed_vectors() * collection.generation.space.dimensions
        seconds = self._pace.delay_seconds(components)
        until = deadline()
        if until is not None:
            seconds = min(seconds, max(0.0, (until - time.monotonic()) / 2))
        if seconds:
            await asyncio.sleep(seconds)

    async def update(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> list[WriteResult]:
        if not patches:
            return []
        return await asyncio.wrap_future(self._store.update_documents(generation, patches))

    def _is_behind(self, shard: Shard) -> bool:
        # One that is opened takes what there was before, which no write has to wait for.
        return shard.state is not ShardState.OPENING and (
            shard.full_segments >= self._max_full_segments
            or shard.unsealed_rows >= self._max_unsealed_vectors
        )

    async def delete(self, generation: Generation, ids: Sequence[str]) -> list[Deletion]:
        if not ids:
            return []
        return await asyncio.wrap_future(self._store.delete_documents(generation, ids))

    async def delete_matching(
        self,
        collection: OpenCollection,
        numbers: Sequence[int],
        condition: Condition,
        *,
        count_only: bool,
    ) -> FilterDeletion:
        """In these shards; none: in all. Raises Unavailable where one does not answer, or is not
        here."""
        until = deadline()
        wanted = numbers or range(collection.generation.shards)
        shards = [shard for number in wanted if (shard := collection.shard(number))]
        if len(shards) < len(wanted):
            raise Unavailable(
                f"{len(shards)} of {len(wanted)} shards are on this retriever; ask those that "
                "have the others for them",
                reason="NOT_ALL_SHARDS",
            )
        return await self.in_thread(
            lambda: delete_matching(
                self._store, shards, condition, count_only=count_only, until=until
            )
        )

    async def states(self, generation: Generation, ids: Sequence[str]) -> list[DocumentState]:
        return await self.in_thread(lambda: self._store.document_states(generation, ids))

    async def document(self, generation: Generation, document_id: str) -> StoredDocument:
        return await self.in_thread(lambda: self._store.document(generation, document_id))

    async def embedded_document(self, generation: Generation, document_id: str) -> EmbeddedDocument:
        return await self.in_thread(lambda: self._store.embedded_document(generation, document_id))

    async def documents(
        self, generation: Generation, after: str, limit: int, max_bytes: int
    ) -> DocumentPage:
        return await self.in_thread(
            lambda: self._store.documents(generation, after, limit, max_bytes)
        )

    async def committed_seqs(self, generation: Generation) -> list[int]:
        return await self.in_thread(lambda: self._store.committed_seqs(generation))

    async def current(self, collection: OpenCollection) -> None:
        """Until its shards show all that is committed now. Raises DeadlineExceeded."""
        committed = await self.committed_seqs(collection.generation)
        until = deadline() or time.monotonic() + self._max_wait_seconds
        for shard in collection.shards:
            left = max(0.0, until - time.monotonic())
            await shard.applied.wait(committed[shard.number], left)

    def position(self, collection: OpenCollection) -> CollectionPosition:
        """Where its writes stand. The shards know of a commit before it is acknowledged, and
        after a restart all that were; nothing is read from disk."""
        return CollectionPosition(
            f"{self._store.opening()}-{collection.generation.key}",
            tuple(collection.committed),
            tuple(
                shard.view.applied_seq if (shard := collection.shard(number)) else 0
                for number in range(collection.generation.shards)
            ),
        )

    async def fetch(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, Passage]:
        """Those of the passages that are still there."""
        return await self.in_thread(lambda: self._store.passages_of(generation, passage_ids))

    async def vectors(self, generation: Generation, passage_ids: Sequence[int]) -> dict[int, bytes]:
        """Those of the passages that are still there."""
        return await self.in_thread(lambda: self._store.vectors(generation, passage_ids))

    async def search(self, collection: OpenCollection, search: PassageSearch) -> CoveredAnswer:
        """Raises DeadlineExceeded, ResourceExhausted."""
        self._pace.searched()
        asked = search.shards or range(collection.generation.shards)
        found_here = map(collection.shard, asked)
        shards = tuple(
            item
            for item in found_here
            if item and item.state is ShardState.READY and not item.elsewhere
        )
        await self._await_consistency(collection, shards, search)
        # What was taken away while others were waited for may lack what is asked for.
        shards = tuple(item for item in shards if not item.elsewhere)
        missing: tuple[int, ...] = ()
        if len(shards) < len(asked):
            there = {shard.number for shard in shards}
            missing = tuple(number for number in asked if number not in there)
        with in_use(shards):
            if not any(search.words):
                # The most common call: without the two tasks that gathering makes.
                dense = await self._search_vectors(shards, search)
                return CoveredAnswer(dense, None, len(asked), missing)
            found, lexical = await asyncio.gather(
                self._search_vectors(shards, search), self._search_words(shards, search)
            )
            return CoveredAnswer(found, lexical, len(asked), missing)

    async def _search_vectors(
        self, shards: tuple[Shard, ...], search: PassageSearch
    ) -> SearchAnswer | None:
        if not search.vector_places:
            return None
        request = SearchRequest(
            shards,
            search.queries,
            search.candidates,
            search.exact,
            search.documents_with_text,
            deadline(),
            ids_only=search.ids_only,
            condition=search.condition,
        )
        return await self._deliveries.result(self._searcher.submit(request))

    async def _search_words(self, shards: tuple[Shard, ...], search: PassageSearch) -> WordAnswer:
        condition = search.condition
        request = WordSearch(
            shards,
            search.words,
            search.candidates,
            search.documents_with_text,
            deadline(),
            ids_only=search.ids_only,
            documents=(lambda view: view.allowed(condition).keys) if condition else None,
        )
        return await asyncio.wrap_future(self._words.submit(request))

    async def _await_consistency(
        self, collection: OpenCollection, shards: Sequence[Shard], search: PassageSearch
    ) -> None:
        """Waits until the shards show what the read must see. Raises InvalidArgument for a write
        that the store does not have: no wait would end."""
        if search.consistency is Consistency.EVENTUAL:
            return
        needed: dict[int, int] = {}
        if any(item.seq > collection.committed[item.shard] for item in search.seen):
            check_seen(search.seen, await self.committed_seqs(collection.generation))
        if search.consistency is Consistency.STRONG:
            committed = await self.committed_seqs(collection.generation)
            needed = dict(enumerate(committed))
        for position in search.seen:
            needed[position.shard] = max(needed.get(position.shard, 0), position.seq)
        call_deadline = deadline() or time.monotonic() + self._max_wait_seconds
        for shard in shards:
            seq = needed.get(shard.number, 0)
            await shard.applied.wait(seq, max(0.0, call_deadline - time.monotonic()))
        words = [shard.lexical for shard in shards if shard.lexical and shard.lexical.ready]
        if any(search.words):
            for lexical in words:
                self._indexer.demand(lexical, needed.get(lexical.number, 0))
            for lexical in words:
                seq = needed.get(lexical.number, 0)
                await lexical.visible.wait(seq, max(0.0, call_deadline - time.monotonic()))
