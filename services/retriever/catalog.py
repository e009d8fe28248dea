"""The collections that this retriever serves, opened: their generations and shards."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from shutil import rmtree

import structlog

from services.retriever.lexical.indexer import Indexer
from services.retriever.open_collection import OpenCollection
from services.retriever.ownership import Everything, Ownership
from services.retriever.recall.auditor import Auditor
from services.retriever.sealer import Sealer
from services.retriever.shard import Shard, ShardState
from services.retriever.shard_folder import SealedState, ShardFolder
from services.retriever.shard_log import replay
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.interface import Store
from services.retriever.store.records import Change, Collection, Generation
from sirdar.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Catalog:
    """Collections by name. Opened and closed by one task; looked up from any thread."""

    def __init__(
        self,
        segments: Path,
        sealer: Sealer,
        indexer: Indexer,
        *,
        seal_vectors: int,
        auditor: Auditor | None = None,
        snapshots: Snapshots | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self._segments = segments
        self.ownership = ownership or Everything()
        self._sealer = sealer
        self._indexer = indexer
        self._seal_vectors = seal_vectors
        self._auditor = auditor
        self._snapshots = snapshots
        # Called, from any thread, when a shard comes, goes, or is not what it was.
        self.on_news: Callable[[], None] = lambda: None
        self._by_name: dict[tuple[str, str], OpenCollection] = {}
        self._by_generation: dict[int, OpenCollection] = {}

    def get(self, namespace: str, name: str) -> OpenCollection:
        """Raises NotFound."""
        collection = self._by_name.get((namespace, name))
        if collection is None:
            raise NotFound(
                f"there is no collection {namespace}/{name}; create it first",
                reason="COLLECTION_NOT_FOUND",
            )
        return collection

    def index_explanation(self, collection: Collection) -> str:
        """Empty: the collection is not open (yet, or any more)."""
        opened = self._by_generation.get(collection.generation.key)
        return opened.index_explanation() if opened else ""

    def all(self) -> list[OpenCollection]:
        return sorted(self._by_name.values(), key=lambda item: (item.namespace, item.name))

    def open_all(self, store: Store) -> None:
        """Opens every collection of the store and removes segments of those that are gone."""
        self.remove_strangers(store)
        for collection in store.all_collections():
            self.open(collection, store)

    def remove_strangers(self, store: Store) -> None:
        """Removes the segments of collections that are gone. Called before any is opened."""
        collections = store.all_collections()
        keys = {str(collection.generation.key) for collection in collections}
        if self._segments.is_dir():
            for folder in self._segments.iterdir():
                if folder.name not in keys:
                    rmtree(folder, ignore_errors=True)

    def open(
        self, collection: Collection, store: Store, *, replayed: bool = True
    ) -> OpenCollection:
        """Maps the sealed segments of a collection and replays the log beyond them.

        Without `replayed` its shards stay OPENING, and whoever opens it replays
        them. Raises NotFound where it was deleted meanwhile.
        """
        generation = collection.generation
        numbers = self.ownership.shards(collection)
        shards = tuple(self._shard(generation, number) for number in numbers)
        self._remove_others(generation, numbers)
        opened = OpenCollection(
            collection.namespace,
            collection.name,
            generation,
            shards,
            [0] * generation.shards,
            collection.lexical.enabled,
            collection.schema,
        )
        self._by_generation[generation.key] = opened
        try:
            committed = store.committed_seqs(generation)
            opened.note_committed(enumerate(committed))
            for shard in shards:
                self._open_shard(collection, shard, store, committed[shard.number], replayed)
        except BaseException:
            del self._by_generation[generation.key]
            self._sealer.forget(shards)
            self._indexer.forget(shard.lexical for shard in shards if shard.lexical)
            raise
        self._by_name[collection.namespace, collection.name] = opened
        self.on_news()
        opened.publish()
        if self._auditor is not None:
            self._auditor.track(
                generation.key, collection.namespace, collection.name, generation.index_kind
            )
        return opened

    def _open_shard(
        self, collection: Collection, shard: Shard, store: Store, committed_seq: int, replayed: bool
    ) -> None:
        if collection.lexical.enabled:
            shard.lexical = self._indexer.open(
                shard.folder.lexical,
                collection.generation,
                shard.number,
                collection.lexical.language,
                committed_seq,
            )
        state = self._sealed(collection, shard, store, committed_seq)
        shard.restore(state)
        if replayed:
            replay(shard, store)
        if collection.schema:
            shard.make_columns(collection.schema, collection.lexical.language, store)
        if replayed:
            shard.ready(committed_seq)

    def of_generation(self, key: int) -> OpenCollection | None:
        return self._by_generation.get(key)

    def prepare(self, collection: Collection, number: int, store: Store) -> Shard:
        """Another shard of a collection, to be added: from a snapshot where there is one. Called
        by one thread, beside all else. Raises OSError, SirdarError."""
        generation = collection.generation
        shard = self._shard(generation, number)
        shard.elsewhere = True
        committed = store.committed_seqs(generation)
        try:
            self._open_shard(collection, shard, store, committed[number], replayed=False)
        except BaseException:
            self.forget(shard)
            raise
        return shard

    def add(self, shard: Shard) -> None:
        """Has a prepared shard among those of its collection, to be replayed."""
        collection = self._by_generation[shard.generation.key]
        shards = sorted((*collection.shards, shard), key=lambda item: item.number)
        self._replace(replace(collection, shards=tuple(shards)))

    def take_away(self, shard: Shard) -> None:
        """It is on others: what comes from now on does without it here, and what waits for it
        goes on to find that it has moved."""
        collection = self._by_generation[shard.generation.key]
        kept = tuple(item for item in collection.shards if item is not shard)
        self._replace(replace(collection, shards=kept))
        shard.elsewhere = True
        shard.applied.release()
        if shard.lexical is not None:
            shard.lexical.visible.release()

    def forget(self, shard: Shard) -> None:
        """Removes the files of a shard that nobody searches or builds any more."""
        shard.dropped = True
        if shard.lexical is not None:
            self._indexer.forget([shard.lexical])
        rmtree(shard.folder.path, ignore_errors=True)

    def _replace(self, collection: OpenCollection) -> None:
        self._by_generation[collection.generation.key] = collection
        self._by_name[collection.namespace, collection.name] = collection
        collection.publish()
        self.on_news()

    def update(self, collection: Collection, store: Store) -> None:
        """Takes over what an update of a collection changed; when it returns a new schema's
        fields can be asked for."""
        key = (collection.namespace, collection.name)
        if collection.schema != self._by_name[key].schema:
            for shard in self._by_name[key].shards:
                shard.make_columns(collection.schema, collection.lexical.language, store)
        self._replace(replace(self._by_name[key], schema=collection.schema))

    def remove(self, namespace: str, name: str) -> None:
        """Forgets a collection and removes its segment files."""
        collection = self._by_name.pop((namespace, name), None)
        if collection is None:
            return
        self._by_generation.pop(collection.generation.key, None)
        self.on_news()
        self._sealer.forget(collection.shards)
        for shard in collection.shards:
            shard.applied.release()
        if self._auditor is not None:
            self._auditor.forget(collection.generation.key)
        self._indexer.forget(shard.lexical for shard in collection.shards if shard.lexical)
        rmtree(self._segments / str(collection.generation.key), ignore_errors=True)
        collection.withdraw()

    def apply(self, changes: Sequence[Change]) -> None:
        """Shows committed changes to searches; the store's `OnCommit`."""

        def place(change: Change) -> tuple[int, int]:
            return change.position.generation_key, change.position.shard

        # Stable: within a shard the order of the log stays.
        for (key, number), group in groupby(sorted(changes, key=place), key=place):
            collection = self._by_generation.get(key)
            if collection is not None:
                shard, of_shard = collection.shard(number), list(group)
                collection.note_committed([(number, of_shard[-1].position.seq)])
                if shard is None:
                    continue
                _apply(collection, shard, of_shard)
                if shard.lexical is not None:
                    self._indexer.feed(shard.lexical, of_shard)

    def replay(
        self,
        collection: OpenCollection,
        shard: Shard,
        changes: Sequence[Change],
        committed_seq: int,
        *,
        whole: bool,
    ) -> None:
        """Shows changes that were read from the log of a shard, in the order of their sequences;
        `whole`: there were no more. Another process wrote them, and has committed up to
        `committed_seq`."""
        _apply(collection, shard, changes, whole=whole)
        if shard.lexical is not None:
            self._indexer.follow(shard.lexical, committed_seq)

    def _remove_others(self, generation: Generation, numbers: Sequence[int]) -> None:
        """What is left of shards that were here once: they would never be brought up to date."""
        folder = self._segments / str(generation.key)
        for number in set(range(generation.shards)).difference(numbers):
            rmtree(folder / str(number), ignore_errors=True)

    def _sealed(
        self, collection: Collection, shard: Shard, store: Store, committed_seq: int
    ) -> SealedState:
        """What is sealed of a shard: from a snapshot, where much is to be replayed without."""
        folder = shard.folder
        state = folder.open(committed_seq)
        if (
            self._snapshots is not None
            and committed_seq - state.covered_seq > self._seal_vectors
            and self._snapshots.restore(collection, store, shard.number, folder, state.covered_seq)
        ):
            state = folder.open(committed_seq)
        return state

    def _shard(self, generation: Generation, number: int) -> Shard:
        path = self._segments / str(generation.key) / str(number)
        return Shard(
            generation,
            number,
            ShardFolder(
                path, generation.key, number, generation.index_kind, generation.space.dimensions
            ),
            seal_vectors=self._seal_vectors,
            on_change=self._changed,
        )

    def _changed(self, shard: Shard) -> None:
        self._sealer.notify(shard)
        self.on_news()


def _apply(
    collection: OpenCollection, shard: Shard, changes: Sequence[Change], *, whole: bool = True
) -> None:
    shard.committed_seq = max(shard.committed_seq, changes[-1].position.seq)
    try:
        shard.apply(changes, whole=whole)
    except Exception:
        # The writes are durable and stay acknowledged; the shard no longer answers, which
        # coverage says, and is right again after a restart.
        shard.state = ShardState.FAILED
        log.exception(
            "a shard failed",
            namespace=collection.namespace,
            collection=collection.name,
            shard=shard.number,
        )
