"""Requests that came before: what they say is read once."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachetools import LRUCache

from gateway.cache.keys import Keys, SearchKey, ShapeKey
from gateway.cache.use import CacheUse, cache_use
from gateway.catalog import CollectionEntry
from gateway.pipeline.checks import check_text
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.request import read_query
from gateway.settings import GatewaySettings
from sirdar.v1 import search_pb2

_MOST = 2_048
# 8 MiB in all.
_LARGEST_BYTES = 4_096
# Stands for the text of a query, which is checked for itself.
_ANY_TEXT = "a"


class _Shape:
    """All that a valid request says but the text of its query. Its key is kept with the
    collections that it was made for and the reranker's model: another entry of the catalog makes
    it anew."""

    def __init__(
        self, data: bytes, settings: GatewaySettings, keys: Keys, *, has_text: bool
    ) -> None:
        """`data`: the request without its text. Raises InvalidArgument that names the field by its
        path."""
        # A message of its own: parts of it are kept, and with them all of the memory that it has.
        self._request = search_pb2.SearchRequest.FromString(data)
        if has_text:
            self._request.query = _ANY_TEXT
        self.query = read_query(self._request, settings)
        self.use = cache_use(self.query.cache, settings.cache_use)
        self._keys = keys
        self._entries: Sequence[CollectionEntry] = ()
        self._rerank_model = b""
        self._key: ShapeKey | None = None

    def key(self, entries: Sequence[CollectionEntry], rerank_model: bytes) -> ShapeKey:
        """As `Keys.of_shape`."""
        if (
            self._key is None
            or rerank_model != self._rerank_model
            or not all(map(operator.is_, self._entries, entries))
        ):
            self._key = self._keys.of_shape(self._request, entries, rerank_model)
            self._entries, self._rerank_model = entries, rerank_model
        return self._key


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A valid request."""

    query: SearchQuery
    _shape: _Shape

    @property
    def use(self) -> CacheUse:
        """Which caches it may be answered from."""
        return self._shape.use

    def key(self, entries: Sequence[CollectionEntry], rerank_model: bytes = b"") -> SearchKey:
        """The entries are of its collections, in their order, and `rerank_model` is what the
        reranker scores with, if it reranks."""
        return self._shape.key(entries, rerank_model).with_text(self.query.text)


class KnownRequests:
    """Those of late. To read one takes a tenth of what an exact hit may take, and most differ
    from one before in the text of their query alone."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._keys = Keys(settings)
        self._shapes: LRUCache[tuple[bytes, bool], _Shape] = LRUCache(_MOST)

    def get(self, request: search_pb2.SearchRequest) -> KnownRequest:
        """Raises InvalidArgument that names the field by its path."""
        text = request.query
        request.query = ""
        data = request.SerializeToString()
        request.query = text
        # Without a text it depends on the rest whether there must be one.
        shape = self._shapes.get((data, bool(text)))
        if shape is None:
            shape = _Shape(data, self._settings, self._keys, has_text=bool(text))
            if len(data) <= _LARGEST_BYTES:
                self._shapes[data, bool(text)] = shape
        if not text:
            return KnownRequest(shape.query, shape)
        text = check_text(text, "query", self._settings)
        return KnownRequest(replace(shape.query, text=text), shape)
