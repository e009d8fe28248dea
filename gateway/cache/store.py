"""Where answers are kept: in process first, and on Redis for all gateways."""

import math
import time
from collections.abc import Callable

from gateway.cache.entry import OTHER_VERSION, CacheEntry, decode, encode
from gateway.cache.memory import MemoryCache
from gateway.cache.metrics import LOOKUP_SECONDS, LOOKUPS
from gateway.cache.redis_link import RedisLink
from sirdar.errors import DataLoss

_PREFIX = b"sirdar:search:"
# A larger one takes Redis, and all who wait behind it, too long.
_LARGEST_SHARED_BYTES = 256 * 2**10


class AnswerStore:
    """A slot is the SHA-256 of a canonical request; its entry says at which position it was
    found, and counts only there. So a write makes entries stale at once, and the next answer
    takes their place."""

    def __init__(
        self,
        memory: MemoryCache,
        redis: RedisLink | None,
        max_age_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._max_age_seconds = max_age_seconds
        self._clock = clock

    async def get(self, slot: bytes, position: bytes) -> bytes | None:
        """The serialized answer that was found at this position."""
        answer = self.get_local(slot, position)
        if answer is not None or self._redis is None or not self._redis.up:
            return answer
        with LOOKUP_SECONDS.labels("redis").time():
            data = await self._redis.get(_PREFIX + slot.hex().encode())
        found, entry = _read(slot, position, data)
        if entry is not None and entry.expires_at <= self._clock():
            found, entry = "miss", None
        LOOKUPS.labels("redis", found).inc()
        if entry is None:
            return None
        self._memory.put(slot, entry)
        return entry.answer

    def get_local(self, slot: bytes, position: bytes) -> bytes | None:
        """What is in process."""
        entry = self._memory.get(slot)
        if entry is None or entry.position != position:
            LOOKUPS.labels("memory", "miss" if entry is None else "stale").inc()
            return None
        LOOKUPS.labels("memory", "hit").inc()
        return entry.answer

    def put(
        self, slot: bytes, position: bytes, answer: bytes, expires_at: float = math.inf
    ) -> None:
        """`expires_at`: from when on, in seconds since the epoch, the answer is another."""
        now = self._clock()
        entry = CacheEntry(position, min(now + self._max_age_seconds, expires_at), answer)
        if entry.expires_at <= now:
            return
        self._memory.put(slot, entry)
        if self._redis is not None and len(answer) <= _LARGEST_SHARED_BYTES:
            key = _PREFIX + slot.hex().encode()
            self._redis.put(key, encode(slot, entry), entry.expires_at - now)


def _read(slot: bytes, position: bytes, data: bytes | None) -> tuple[str, CacheEntry | None]:
    """What was found, in a word, and the entry where it counts."""
    if data is None:
        return "miss", None
    try:
        entry = decode(slot, data)
    except DataLoss as fault:
        return ("version" if fault.reason == OTHER_VERSION else "damaged"), None
    return ("hit", entry) if entry.position == position else ("stale", None)
