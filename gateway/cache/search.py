"""Searches through the caches: the exact one, the semantic one, and equal ones under way."""

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.backends import Embedder, Reranker, Retriever, call_for
from gateway.cache.dropped import DroppedCollections
from gateway.cache.flights import Flights, Searched
from gateway.cache.keys import SearchKey
from gateway.cache.known_requests import KnownRequest, KnownRequests
from gateway.cache.memory import MemoryCache
from gateway.cache.metrics import ANSWERS
from gateway.cache.neighbours import UnitVector, unit_vector
from gateway.cache.positions import Position, Positions
from gateway.cache.redis_link import RedisLink
from gateway.cache.rerank_model import RerankModel
from gateway.cache.sampling import Sample, Sampler
from gateway.cache.semantic import SemanticCache, SemanticHit, overlap
from gateway.cache.store import AnswerStore
from gateway.cache.use import CacheUse
from gateway.catalog import Catalog, CollectionEntry
from gateway.pipeline.query import SearchQuery
from gateway.search_watch import SearchWatch, watched
from gateway.searches import Searches
from gateway.settings import GatewaySettings
from services.runtime.deadline import set_deadline
from sirdar.errors import SirdarError
from sirdar.v1 import common_pb2, query_pb2, search_pb2

Preliminary: TypeAlias = Callable[[search_pb2.SearchResponse], None] | None

# For a search that nobody waits for.
_SAMPLE_SECONDS = 10.0
# Looked up once: that takes as long as to count.
_COUNTED = {
    status: ANSWERS.labels(name.removeprefix("CACHE_STATUS_").lower())
    for name, status in query_pb2.CacheStatus.items()
    if status != query_pb2.CACHE_STATUS_UNSPECIFIED
}
_SHARED = ANSWERS.labels("shared")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A search whose collections stand at a position that is known."""

    request: search_pb2.SearchRequest
    query: SearchQuery
    use: CacheUse
    entries: Sequence[CollectionEntry]
    key: SearchKey
    position: Position
    rerank_model: bytes

    @property
    def shape(self) -> bytes | None:
        """None: the semantic cache is not for it."""
        return self.key.shape if self.use is CacheUse.SEMANTIC else None


class CachedSearch:
    """An answer is kept only if it is whole: nothing degraded, every shard answered, no write
    pending, and the retriever's answers show exactly the writes that were committed when the
    search began. A kept answer is served only while these are the committed ones, which the
    retriever is asked at each lookup.

    So a hit shows every write that was acknowledged before the search came, through whatever
    gateway, and is right for each consistency: eventual and strong ask for no more, and a
    session's tokens, which the gateway cannot read, are a part of the key, so that they were
    checked by a real search over the same writes.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        catalog: Catalog,
        embedder: Embedder,
        retriever: Retriever,
        reranker: Reranker | None,
        searches: Searches,
    ) -> None:
        """Raises FailedPrecondition for a cache_url that is none."""
        self._settings = settings
        self._catalog = catalog
        self._embedder = embedder
        self._searches = searches
        self._known = KnownRequests(settings)
        self._positions = Positions(retriever)
        self._rerank_model = RerankModel(reranker)
        self._flights = Flights()
        url = settings.cache_url
        self._redis = RedisLink(url.get_secret_value()) if url else None
        self._store = AnswerStore(
            MemoryCache(settings.cache_bytes), self._redis, settings.cache_max_age_seconds
        )
        self._semantic = SemanticCache(
            self._store,
            similarity=settings.cache_semantic_similarity,
            floor=settings.cache_semantic_floor,
            sampled_share=settings.cache_semantic_sampled,
            vector_bytes=settings.cache_semantic_bytes,
        )
        self._sampler = Sampler(self._compare)
        self._dropped = DroppedCollections(catalog, self._semantic)

    def start(self) -> None:
        if self._redis is not None:
            self._redis.start()
        self._sampler.start()
        self._rerank_model.start()
        self._dropped.start()

    async def close(self) -> None:
        await self._sampler.close()
        await self._rerank_model.close()
        await self._dropped.close()
        if self._redis is not None:
            await self._redis.close()

    async def search(
        self, request: search_pb2.SearchRequest, preliminary: Preliminary = None
    ) -> search_pb2.SearchResponse:
        """As `Searches.search`; what is kept has no preliminary order.

        Raises InvalidArgument, too, that names the field by its path.
        """
        started = time.perf_counter()
        known = self._known.get(request)
        use = known.use
        lookup = None if use is CacheUse.NONE else await self._lookup(request, known, use)
        if lookup is None:
            response = await self._searches.search(known.query, preliminary)
            _set(response, query_pb2.CACHE_STATUS_BYPASSED)
            return response
        answer = await self._store.get(lookup.key.slot, lookup.position.digest)
        if answer is not None:
            response = search_pb2.SearchResponse.FromString(answer)
            _set(response, query_pb2.CACHE_STATUS_EXACT_HIT)
            _set_total(response, started)
            return response
        if preliminary is not None:
            return (await self._find(lookup, preliminary)).response
        # What may be less than whole must be what this very caller allows.
        flight = (
            lookup.key.slot,
            lookup.position.digest,
            use,
            known.query.consistency,
            known.query.require_complete,
        )
        searched = await self._flights.share(flight, lambda: self._find(lookup))
        if searched.shared:
            _SHARED.inc()
            _set_total(searched.response, started)
        return searched.response

    async def _lookup(
        self, request: search_pb2.SearchRequest, known: KnownRequest, use: CacheUse
    ) -> _Lookup | None:
        """None: there is no position to be had, and the search will tell what is wrong."""
        query = known.query
        namespace, names = query.namespace, query.collections
        call_for(namespace)
        try:
            position = await self._positions.of(namespace, names)
            entries = [await self._catalog.get(namespace, name) for name in names]
        except SirdarError:
            return None
        model = self._rerank_model.known
        return _Lookup(request, query, use, entries, known.key(entries, model), position, model)

    async def _find(self, lookup: _Lookup, preliminary: Preliminary = None) -> Searched:
        """From the semantic cache, else by searching."""
        watch = SearchWatch()
        vector = await self._vector(lookup, watch)
        hit = None
        off = False
        if lookup.shape is not None:
            entry = lookup.entries[0]
            quality = self._semantic.quality(entry.namespace, entry.name)
            off = not quality.serving
            if vector is not None:
                hit = self._semantic.find(lookup.shape, lookup.position.digest, vector)
            if hit is not None and not off:
                if quality.samples():
                    self._sample(lookup, hit)
                _set(hit.answer, query_pb2.CACHE_STATUS_SEMANTIC_HIT, hit.similarity)
                return Searched(hit.answer, whole=True)
        response, whole = await self._search_at(lookup, watch, preliminary)
        if whole and vector is not None and lookup.shape is not None:
            self._semantic.add(lookup.shape, lookup.position.digest, vector, lookup.key.slot)
            if hit is not None:
                self._note(lookup.entries[0], lookup.request, hit.answer, response)
        _set(
            response,
            query_pb2.CACHE_STATUS_SEMANTIC_OFF if off else query_pb2.CACHE_STATUS_MISS,
        )
        return Searched(response, whole)

    async def _vector(self, lookup: _Lookup, watch: SearchWatch) -> UnitVector | None:
        """The query's, for the semantic cache; the search will not embed it again."""
        if lookup.shape is None:
            return None
        text, space = lookup.query.text, lookup.entries[0].space
        try:
            embedded = await self._embedder.embed_query(
                text, space.model, space.fingerprint, self._settings.embed_timeout_seconds
            )
        except SirdarError:
            return None
        watch.text, watch.embedded = text, embedded
        return unit_vector(embedded.vector)

    async def _search_at(
        self, lookup: _Lookup, watch: SearchWatch, preliminary: Preliminary = None
    ) -> tuple[search_pb2.SearchResponse, bool]:
        """Searches, and keeps the answer if it is whole; whether it is."""
        with watched(watch):
            response = await self._searches.search(lookup.query, preliminary)
        whole = (
            _is_whole(response)
            and watch.applied_seqs == lookup.position.committed_seqs
            and watch.reranked_by <= {lookup.rerank_model}
        )
        # The key says what the collection was known to be before; the search may know better.
        known = [self._catalog.known(entry.namespace, entry.name) for entry in lookup.entries]
        if whole and all(map(operator.is_, known, lookup.entries)):
            kept = search_pb2.SearchResponse()
            kept.CopyFrom(response)
            kept.ClearField("timings")
            self._store.put(
                lookup.key.slot, lookup.position.digest, kept.SerializeToString(), watch.expires_at
            )
        return response, whole

    def _sample(self, lookup: _Lookup, hit: SemanticHit) -> None:
        answer = search_pb2.SearchResponse()
        answer.CopyFrom(hit.answer)
        self._sampler.offer(Sample(lookup.request, answer, lookup.position.digest))

    async def _compare(self, sample: Sample) -> bool:
        """Searches for real what was answered from the semantic cache; False: it could not be
        compared."""
        set_deadline(_SAMPLE_SECONDS)
        known = self._known.get(sample.request)
        lookup = await self._lookup(sample.request, known, CacheUse.EXACT)
        if lookup is None or lookup.position.digest != sample.position:
            return False
        response, whole = await self._search_at(lookup, SearchWatch())
        if whole:
            self._note(lookup.entries[0], sample.request, sample.answer, response)
        return whole

    def _note(
        self,
        entry: CollectionEntry,
        request: search_pb2.SearchRequest,
        kept: search_pb2.SearchResponse,
        real: search_pb2.SearchResponse,
    ) -> None:
        self._semantic.note(entry.namespace, entry.name, overlap(kept, real, request.unit))


def _is_whole(response: search_pb2.SearchResponse) -> bool:
    coverages = [response.coverage, *(item.coverage for item in response.collections)]
    return not response.degraded and all(
        coverage.shards_answered == coverage.shards_asked
        and not coverage.missing_shards
        and coverage.pending_writes == 0
        for coverage in coverages
    )


def _set(
    response: search_pb2.SearchResponse,
    status: query_pb2.CacheStatus.ValueType,
    similarity: float | None = None,
) -> None:
    response.ClearField("cache")
    response.cache.status = status
    if similarity is not None:
        response.cache.similarity = similarity
    _COUNTED[status].inc()


def _set_total(response: search_pb2.SearchResponse, started: float) -> None:
    """All that this caller waited for."""
    response.ClearField("timings")
    timing = response.timings.add(stage=common_pb2.STAGE_TOTAL)
    timing.duration.FromNanoseconds(round((time.perf_counter() - started) * 1e9))
