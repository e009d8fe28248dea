"""How far a replica is behind the store that it follows."""

import time
from collections.abc import Callable, Iterable

from prometheus_client import Gauge

from services.retriever.open_collection import OpenCollection

_LABELS = ("tenant", "collection")
LAG_WRITES = Gauge(
    "sirdar_retriever_replica_lag_writes",
    "Committed writes that this read replica knows of and does not show yet.",
    _LABELS,
)
LAG_SECONDS = Gauge(
    "sirdar_retriever_replica_lag_seconds",
    "Seconds since this read replica was last known to show all committed writes.",
    _LABELS,
)


class Lag:
    """Written by the follower's thread, read when metrics are scraped."""

    def __init__(self, opened: Callable[[int], OpenCollection | None]) -> None:
        """`opened`: a collection as it is open now, by the key of its generation."""
        self._opened = opened
        # When each collection was last complete, on time.monotonic(); of those that are behind.
        self._complete_at: dict[int, float] = {}
        self._checked_at = time.monotonic()

    def publish(self, collection: OpenCollection) -> None:
        labels = (collection.namespace, collection.name)
        key = collection.generation.key
        LAG_WRITES.labels(*labels).set_function(lambda: self.writes(key))
        LAG_SECONDS.labels(*labels).set_function(lambda: self.seconds(key))

    def forget(self, collection: OpenCollection) -> None:
        self._complete_at.pop(collection.generation.key, None)
        LAG_WRITES.remove(collection.namespace, collection.name)
        LAG_SECONDS.remove(collection.namespace, collection.name)

    def checked(self, behind: Iterable[int], at: float) -> None:
        """What was committed `at` that time is shown, but for these generations."""
        before = self._checked_at
        self._complete_at = {key: self._complete_at.get(key, before) for key in behind}
        self._checked_at = at

    def seconds(self, generation_key: int) -> float:
        complete_at = self._complete_at.get(generation_key, self._checked_at)
        return max(0.0, time.monotonic() - complete_at)

    def writes(self, generation_key: int) -> int:
        opened = self._opened(generation_key)
        shards = opened.shards if opened else ()
        return sum(max(0, shard.committed_seq - shard.view.applied_seq) for shard in shards)
