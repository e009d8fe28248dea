"""Answers kept in process: bounded by bytes, the least used go first, and none is old."""

import time
from collections.abc import Callable

from cachetools import TLRUCache

from gateway.cache.entry import CacheEntry
from gateway.cache.metrics import EVICTIONS, MEMORY_BYTES

# What Python needs for an entry beside its bytes: measured 900, with key, links and expiry.
_OVERHEAD_BYTES = 900
# One answer must not drive out all others.
_LARGEST_SHARE = 8


class MemoryCache:
    """`clock` tells seconds since the epoch."""

    def __init__(self, limit_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._entries = _Entries(limit_bytes, clock)
        self._largest_bytes = limit_bytes // _LARGEST_SHARE

    def get(self, slot: bytes) -> CacheEntry | None:
        return self._entries.get(slot)

    def put(self, slot: bytes, entry: CacheEntry) -> None:
        """In the place of what the slot has; an answer that is too large is not kept."""
        if _size(entry) <= self._largest_bytes:
            self._entries[slot] = entry
        else:
            self._entries.pop(slot, None)
        MEMORY_BYTES.set(self._entries.currsize)


class _Entries(TLRUCache[bytes, CacheEntry]):
    def __init__(self, limit_bytes: int, clock: Callable[[], float]) -> None:
        super().__init__(
            limit_bytes, lambda slot, entry, now: entry.expires_at, clock, getsizeof=_size
        )

    def popitem(self) -> tuple[bytes, CacheEntry]:
        EVICTIONS.inc()
        return super().popitem()


def _size(entry: CacheEntry) -> int:
    return len(entry.answer) + _OVERHEAD_BYTES
