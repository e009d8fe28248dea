"""The collections that this retriever serves, opened: their generations and shards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from shutil import rmtree

import structlog
from prometheus_client import Gauge

from services.retriever.index_kinds import explain
from services.retriever.lexical.indexer import Indexer
from services.retriever.ownership import Everything, Ownership
from services.retriever.recall.auditor import Auditor
from services.retriever.sealer import Sealer
from services.retriever.segment import SegmentView
from services.retriever.shard import Shard, ShardState
from services.retriever.shard_folder import SealedState, ShardFolder
from services.retriever.shard_log import replay
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.interface import Store
from services.retriever.store.records import Change, Collection, FieldSchema, Generation
from sirdar.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LABELS = ("tenant", "collection")
VECTORS = Gauge("sirdar_retriever_vectors", "Live vectors.", _LABELS)
TOMBSTONES = Gauge(
    "sirdar_retriever_tombstones", "Vectors of deleted passages still in segments.", _LABELS
)
SEGMENTS = Gauge("sirdar_retriever_segments", "Segments.", (*_LABELS, "kind"))
SEGMENT_BYTES = Gauge(
    "sirdar_retriever_segment_bytes", "What sealed segments take on disk.", _LABELS
)
UNSEALED = Gauge(
    "sirdar_retriever_unsealed_vectors", "Vectors that no sealed segment has yet.", _LABELS
)


@dataclass(frozen=True, slots=True)
class OpenCollection:
    namespace: str
    name: str
    generation: Generation
    # Those that are here.
    shards: tuple[Shard, ...]
    # One a shard, here or not: the last write that is known to be committed.
    committed: list[int]
    schema: tuple[FieldSchema, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all of its shards are here."""
        return len(self.shards) == self.generation.shards

    def shard(self, number: int) -> Shard | None:
        """None: it is not here."""
        if self.whole:
            return self.shards[number]
        return next((shard for shard in self.shards if shard.number == number), None)

    def note_committed(self, seqs: Iterable[tuple[int, int]]) -> None:
        """Of these shards, by their numbers."""
        for number, seq in seqs:
            self.committed[number] = max(self.committed[number], seq)

    def vectors(self) -> int:
        return sum(part.rows - part.dead for part in self._segments())

    def tombstones(self) -> int:
        return sum(part.dead for part in self._segments())

    def unsealed_vectors(self) -> int:
        return sum(shard.unsealed_rows for shard in self.shards)

    def index_explanation(self) -> str:
        """What indexes the collection has and why."""
        sealed = [item for shard in self.shards for item in shard.sealed_summaries()]
        return explain(self.generation.index_kind, sealed, self.unsealed_vectors())

    def publish(self) -> None:
        """Lets the gauges of the collection be read from it when they are scraped."""
        labels = (self.namespace, self.name)
        VECTORS.labels(*labels).set_function(self.vectors)
        TOMBSTONES.labels(*labels).set_function(self.tombstones)
        SEGMENT_BYTES.labels(*labels).set_function(
            lambda: sum(shard.folder.segment_bytes for shard in self.shards)
        )
        UNSEALED.labels(*labels).set_function(self.unsealed_vectors)
        SEGMENTS.labels(*labels, "sealed").set_function(
            lambda: sum(shard.sealed_segments for shard in self.shards)
        )
        SEGMENTS.labels(*labels, "growing").set_function(
            lambda: sum(shard.growing_segments for shard in self.shards)
        )

    def _segments(self) -> Iterator[SegmentView]:
        return (part for shard in self.shards for part in shard.view.segments)


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
        self._ownership = ownership or Everything()
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
        numbers = self._ownership.shards(collection)
        shards = tuple(self._shard(generation, number) for number in numbers)
        self._remove_others(generation, numbers)
        opened = OpenCollection(
            collection.namespace,
            collection.name,
            generation,
            shards,
            [0] * generation.shards,
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

    def update(self, collection: Collection, store: Store) -> None:
        """Takes over what an update of a collection changed; when it returns a new schema's
        fields can be asked for."""
        key = (collection.namespace, collection.name)
        if collection.schema != self._by_name[key].schema:
            for shard in self._by_name[key].shards:
                shard.make_columns(collection.schema, collection.lexical.language, store)
        updated = replace(self._by_name[key], schema=collection.schema)
        self._by_generation[updated.generation.key] = updated
        self._by_name[key] = updated

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
        for gauge in (VECTORS, TOMBSTONES, SEGMENT_BYTES, UNSEALED):
            gauge.remove(namespace, name)
        for kind in ("sealed", "growing"):
            SEGMENTS.remove(namespace, name, kind)

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
