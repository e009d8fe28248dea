"""Which caches a search may be answered from."""

from enum import StrEnum

from sirdar.v1 import query_pb2


class CacheUse(StrEnum):
    NONE = "none"
    EXACT = "exact"
    SEMANTIC = "semantic"


_USES = {
    query_pb2.CACHE_USE_NONE: CacheUse.NONE,
    query_pb2.CACHE_USE_EXACT: CacheUse.EXACT,
    query_pb2.CACHE_USE_SEMANTIC: CacheUse.SEMANTIC,
}


def cache_use(asked: query_pb2.CacheUse.ValueType, default: CacheUse) -> CacheUse:
    """What the request says, else the server."""
    return _USES.get(asked, default)
