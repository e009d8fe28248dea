"""Requests that came before: what they say is read once."""

import operator
from collections.abc import Sequence

from cachetools import LRUCache

from gateway.cache.keys import Keys, SearchKey
from gateway.cache.use import cache_use
from gateway.catalog import CollectionEntry
from gateway.pipeline.request import read_query
from gateway.settings import GatewaySettings
from sirdar.v1 import search_pb2

_MOST = 2_048
# 8 MiB in all.
_LARGEST_BYTES = 4_096


class KnownRequest:
    """What the caches ask of a valid request. Its key is kept with the collections that it was
    made for and the reranker's model: another entry of the catalog makes it anew."""

    def __init__(
        self, request: search_pb2.SearchRequest, settings: GatewaySettings, keys: Keys
    ) -> None:
        """Raises InvalidArgument that names the field by its path."""
        query = read_query(request, settings)
        self.namespace = query.namespace
        self.collections = query.collections
        self.use = cache_use(query.cache, settings.cache_use)
        self._request = request
        self._keys = keys
        self._entries: Sequence[CollectionEntry] = ()
        self._rerank_model = b""
        self._key: SearchKey | None = None

    def key(self, entries: Sequence[CollectionEntry], rerank_model: bytes = b"") -> SearchKey:
        """As `Keys.of`."""
        if (
            self._key is None
            or rerank_model != self._rerank_model
            or not all(map(operator.is_, self._entries, entries))
        ):
            self._key = self._keys.of(self._request, entries, rerank_model)
            self._entries, self._rerank_model = entries, rerank_model
        return self._key


class KnownRequests:
    """Those of late. Reading one takes a tenth of what an exact hit may take."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._keys = Keys(settings)
        self._known: LRUCache[bytes, KnownRequest] = LRUCache(_MOST)

    def get(self, request: search_pb2.SearchRequest) -> KnownRequest:
        """Raises InvalidArgument that names the field by its path."""
        data = request.SerializeToString()
        known = self._known.get(data)
        if known is None:
            known = KnownRequest(request, self._settings, self._keys)
            if len(data) <= _LARGEST_BYTES:
                self._known[data] = known
        return known
