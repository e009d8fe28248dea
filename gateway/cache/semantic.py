"""Answers to queries that mean nearly the same, for as long as they are good enough."""

from dataclasses import dataclass

import structlog

from gateway.cache.metrics import SEMANTIC_FALSE_HITS, SEMANTIC_OVERLAP, SEMANTIC_SERVING
from gateway.cache.neighbours import Neighbours, UnitVector
from gateway.cache.quality import HitQuality
from gateway.cache.store import AnswerStore
from sirdar.v1 import query_pb2, search_pb2

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Collections beyond are measured anew when they come again.
_MAX_COLLECTIONS = 10_000


@dataclass(frozen=True, slots=True)
class SemanticHit:
    """The kept answer to the nearest query, and the cosine of the two queries."""

    answer: search_pb2.SearchResponse
    similarity: float


class SemanticCache:
    """In process alone: each gateway knows the queries that it answered itself. `store` has the
    answers; one that it dropped is no hit any more."""

    def __init__(
        self,
        store: AnswerStore,
        *,
        similarity: float,
        floor: float,
        sampled_share: float,
        vector_bytes: int,
    ) -> None:
        self._store = store
        self._similarity = similarity
        self._floor = floor
        self._sampled_share = sampled_share
        self._neighbours = Neighbours(vector_bytes)
        self._qualities: dict[tuple[str, str], HitQuality] = {}

    def quality(self, namespace: str, collection: str) -> HitQuality:
        known = self._qualities.get((namespace, collection))
        if known is None:
            if len(self._qualities) >= _MAX_COLLECTIONS:
                for one in self.measured():
                    self.forget(*one)
            known = HitQuality(self._floor, self._sampled_share)
            self._qualities[namespace, collection] = known
            SEMANTIC_SERVING.labels(namespace, collection).set(1)
        return known

    def measured(self) -> list[tuple[str, str]]:
        """Namespaces and names of the collections that it measures."""
        return list(self._qualities)

    def forget(self, namespace: str, collection: str) -> None:
        """What was measured of the collection, also as Prometheus sees it."""
        if self._qualities.pop((namespace, collection), None) is not None:
            labels = {"tenant": namespace, "collection": collection}
            for metric in (SEMANTIC_OVERLAP, SEMANTIC_FALSE_HITS, SEMANTIC_SERVING):
                metric.remove_by_labels(labels)

    def find(self, shape: bytes, position: bytes, vector: UnitVector) -> SemanticHit | None:
        """What would be answered, whether the collection's quality allows it or not."""
        nearest = self._neighbours.nearest(shape, position, vector)
        if nearest is None or nearest.similarity < self._similarity:
            return None
        answer = self._store.get_local(nearest.slot, position)
        if answer is None:
            return None
        return SemanticHit(search_pb2.SearchResponse.FromString(answer), nearest.similarity)

    def add(self, shape: bytes, position: bytes, vector: UnitVector, slot: bytes) -> None:
        """There is a real answer to the query with this vector in the slot."""
        self._neighbours.add(shape, position, vector, slot)

    def note(self, namespace: str, collection: str, overlap: float) -> None:
        """A hit, or what would have been one, was compared with a real answer."""
        quality = self.quality(namespace, collection)
        before = quality.serving, quality.estimate
        quality.note(overlap)
        labels = (namespace, collection)
        SEMANTIC_OVERLAP.labels(*labels).observe(overlap)
        estimate = quality.estimate
        for bound in ("share", "low", "high"):
            name = "estimate" if bound == "share" else bound
            SEMANTIC_FALSE_HITS.labels(*labels, name).set(getattr(estimate, bound))
        SEMANTIC_SERVING.labels(*labels).set(quality.serving)
        if quality.serving != before[0]:
            log.warning(
                "the semantic cache turned itself " + ("on" if quality.serving else "off"),
                namespace=namespace,
                collection=collection,
                false_hits=before[1].share,
                samples=before[1].samples,
            )


def overlap(
    one: search_pb2.SearchResponse,
    other: search_pb2.SearchResponse,
    unit: query_pb2.SearchUnit.ValueType,
) -> float:
    """The share of results, of the longer of two answers, that are in both; 1 for two that are
    empty."""
    ids = [
        {
            (
                result.collection,
                result.document_id,
                result.snippet.passage_index if unit == query_pb2.SEARCH_UNIT_PASSAGES else 0,
            )
            for result in response.results
        }
        for response in (one, other)
    ]
    longest = max(map(len, ids))
    return len(ids[0] & ids[1]) / longest if longest else 1.0
