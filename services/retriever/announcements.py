"""What this retriever has, told to those who route calls: at once, and not too often."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import NamedTuple

from services.retriever.catalog import Catalog
from services.retriever.shard import Shard, ShardState
from services.runtime.drain import Drain
from sirdar.errors import ResourceExhausted

# Between two messages of a stream; a heartbeat where nothing changes.
_LEAST_SECONDS, _HEARTBEAT_SECONDS = 0.05, 1.0
# A look at 4,000 shards takes some milliseconds, of the thread that answers calls: a twentieth of
# its time at most.
_PAUSE_TIMES = 20
_MAX_WATCHERS = 256


class ShardKey(NamedTuple):
    namespace: str
    collection: str
    generation: int
    shards: int
    shard: int


class AnnouncedState(Enum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Announced:
    """A shard as it is told of."""

    state: AnnouncedState
    applied_seq: int


Changes = dict[ShardKey, Announced]
_GONE = Announced(AnnouncedState.GONE, 0)


class Announcements:
    """Any number of streams. Of each no more is held than what it was told last, however slowly
    it is read: what changed meanwhile is told as it is by then."""

    def __init__(self, catalog: Catalog, drain: Drain) -> None:
        self._catalog = catalog
        self._drain = drain
        self._watchers: tuple[_Watcher, ...] = ()
        self._lock = Lock()
        catalog.on_news = self._wake

    def _wake(self) -> None:
        """Called from any thread. Costs next to nothing while nobody listens, or all were woken
        already."""
        for watcher in self._watchers:
            watcher.wake()

    async def watch(self) -> AsyncGenerator[Changes, None]:
        """First everything, then what changed; nothing, as a heartbeat. Ends when the server
        drains. Raises ResourceExhausted."""
        watcher = self._enter()
        told: Changes = {}
        try:
            while True:
                watcher.rest()
                began = time.perf_counter()
                leaving, draining = self._drain.leaving.is_set(), self._drain.draining
                now = self._now(leaving)
                changes = {key: item for key, item in now.items() if told.get(key) != item}
                changes |= dict.fromkeys(told.keys() - now.keys(), _GONE)
                told = now
                looked_seconds = time.perf_counter() - began
                yield changes
                if draining:
                    return
                await self._news(watcher, leaving, _PAUSE_TIMES * looked_seconds)
        finally:
            with self._lock:
                self._watchers = tuple(one for one in self._watchers if one is not watcher)

    def _enter(self) -> "_Watcher":
        watcher = _Watcher()
        with self._lock:
            if len(self._watchers) >= _MAX_WATCHERS:
                raise ResourceExhausted(
                    f"{_MAX_WATCHERS} watch the shards of this retriever already; end some"
                )
            self._watchers = (*self._watchers, watcher)
        return watcher

    def _now(self, leaving: bool) -> Changes:
        return {
            ShardKey(
                collection.namespace,
                collection.name,
                collection.generation.number,
                collection.generation.shards,
                shard.number,
            ): Announced(state_of(shard, leaving=leaving), shard.view.applied_seq)
            for collection in self._catalog.all()
            for shard in collection.shards
        }

    async def _news(self, watcher: "_Watcher", leaving: bool, pause_seconds: float) -> None:
        """Returns when there may be something to tell, or it is time for a heartbeat."""
        stop = self._drain.wait if leaving else self._drain.leaving.wait
        stopping = asyncio.ensure_future(stop())
        try:
            await asyncio.wait((stopping,), timeout=max(_LEAST_SECONDS, pause_seconds))
            if stopping.done():
                return
            woken = asyncio.ensure_future(watcher.woken.wait())
            try:
                await asyncio.wait(
                    (stopping, woken),
                    timeout=_HEARTBEAT_SECONDS - _LEAST_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                woken.cancel()
        finally:
            stopping.cancel()


class _Watcher:
    """An event of one loop, set from other threads, at most once for each look."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waking = False

    def wake(self) -> None:
        if not self._waking:
            self._waking = True
            # Closed where the server has stopped, and nobody listens any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.woken.set)

    def rest(self) -> None:
        """Before a look: what happens from here on is news."""
        self.woken.clear()
        self._waking = False


def state_of(shard: Shard, *, leaving: bool = False) -> AnnouncedState:
    """`leaving`: the whole retriever is."""
    if shard.state is ShardState.FAILED:
        return AnnouncedState.FAILED
    if shard.elsewhere or not is_whole(shard):
        return AnnouncedState.LOADING
    return AnnouncedState.DRAINING if leaving or shard.leaving else AnnouncedState.READY


def is_whole(shard: Shard) -> bool:
    """Whether it answers from all that there was when it was opened."""
    words = shard.lexical
    # Without its words it would answer, by meaning alone.
    wordless = words is not None and not (words.ready or words.retry_seconds)
    return shard.state is ShardState.READY and not wordless
