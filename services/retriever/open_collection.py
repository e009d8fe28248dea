"""A collection as it is open on this retriever, and what is measured of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Gauge

from services.retriever.index_kinds import explain
from services.retriever.segment import SegmentView
from services.retriever.shard import Shard
from services.retriever.store.records import FieldSchema, Generation

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
    # Whether it has words, too.
    lexical: bool
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

    def withdraw(self) -> None:
        """It is gone, and its gauges with it."""
        for gauge in (VECTORS, TOMBSTONES, SEGMENT_BYTES, UNSEALED):
            gauge.remove(self.namespace, self.name)
        for kind in ("sealed", "growing"):
            SEGMENTS.remove(self.namespace, self.name, kind)

    def _segments(self) -> Iterator[SegmentView]:
        return (part for shard in self.shards for part in shard.view.segments)
