"""Snapshots of all collections: taken when asked and at intervals, used when a shard opens."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import BoundedSemaphore, Event, Thread

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.retriever.shard import Shard
from services.retriever.shard_folder import ShardFolder
from services.retriever.snapshots.impatience import HANGS
from services.retriever.snapshots.layout import Layout
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.manifest import SnapshotOf, is_by
from services.retriever.snapshots.restoring import restore
from services.retriever.snapshots.retention import delete_all, keep_last
from services.retriever.snapshots.taking import Snapshot, read_manifest, take
from services.retriever.snapshots.turns import Turns
from services.retriever.store.interface import Store
from services.retriever.store.records import Collection, Generation
from sirdar.errors import (
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    SirdarError,
    Unavailable,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SECONDS = Histogram(
    "sirdar_retriever_snapshot_seconds",
    "Taking a snapshot of a collection.",
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800),
)
FAILURES = Counter("sirdar_retriever_snapshot_failures_total", "Snapshots that could not be taken.")
TAKEN = Gauge(
    "sirdar_retriever_snapshot_timestamp_seconds",
    "When the last snapshot of a collection was taken.",
    ("tenant", "collection"),
)
RESTORED = Counter(
    "sirdar_retriever_shards_restored_total", "Shards whose segments came from a snapshot."
)
NOT_RESTORED = Counter(
    "sirdar_retriever_shards_not_restored_total",
    "Snapshots that could not be used for a shard: damaged, of another past, not to be read.",
)

CLOSING_SECONDS = 5.0

_MAX_WAITING = 16


class Snapshots:
    """One snapshot is taken at a time, in a thread of its own."""

    def __init__(self, location: SnapshotLocation | None, *, kept: int, writer: str) -> None:
        """`location` None: there are none. The last `kept` of a collection are kept; only what
        `writer` took is ever deleted."""
        self._location = location
        self._kept = kept
        self._writer = writer
        # It did not answer when a shard was opened: the next ones do not ask.
        self._hangs = False
        self._suspects: set[str] = set()
        # The manifests of the shards in the last snapshot of each generation.
        self._last: dict[int, tuple[str, ...]] = {}
        self._waiting = BoundedSemaphore(_MAX_WAITING)
        self._turns = Turns("snapshot")
        self._closing = Event()
        self._interval: Thread | None = None

    def start(self, interval_seconds: float | None, take_all: Callable[[], None]) -> None:
        """Calls `take_all` at an interval; None: never."""
        if interval_seconds is None or self._location is None:
            return

        def run() -> None:
            while not self._closing.wait(interval_seconds):
                try:
                    take_all()
                except SirdarError as error:
                    log.warning("no snapshots were taken", error=error.message)
                except Exception:
                    # Whatever it was, the next interval may do better; without this thread
                    # there would be no more snapshots, and nobody told.
                    log.exception("no snapshots were taken")

        self._interval = Thread(target=run, name="snapshot-interval", daemon=True)
        self._interval.start()

    def close(self) -> None:
        """Gives up what is being taken and what waits for it; a location that does not answer is
        waited for `CLOSING_SECONDS`."""
        self._closing.set()
        self._turns.close(CLOSING_SECONDS)
        if self._interval is not None:
            self._interval.join()

    def submit(
        self, collection: Collection, store: Store, shards: Sequence[Shard]
    ) -> Future[Snapshot]:
        """Takes a snapshot of these shards. Raises, or fails with, FailedPrecondition,
        ResourceExhausted, Unavailable and DataLoss."""
        location = self._location
        if location is None:
            raise FailedPrecondition(
                "the server has no snapshot location; set snapshot_url",
                reason="NO_SNAPSHOT_LOCATION",
            )
        if not self._waiting.acquire(blocking=False):
            raise ResourceExhausted(f"{_MAX_WAITING} snapshots wait already; retry later")
        folders = {shard.number: shard.folder for shard in shards}
        try:
            future = self._turns.submit(lambda: self._take(location, collection, store, folders))
        except Unavailable:
            self._waiting.release()
            raise
        future.add_done_callback(lambda _: self._waiting.release())
        return future

    def forget(self, namespace: str, name: str, generation: Generation, store: Store) -> None:
        """Deletes the snapshots of a collection that was deleted, in the background."""
        location = self._location
        if location is None:
            return
        self._last.pop(generation.key, None)
        with suppress(KeyError):
            TAKEN.remove(namespace, name)
        layout = Layout(store.identity(), generation)

        def stay(error: SirdarError) -> None:
            log.warning("snapshots of a deleted collection stay", error=error.message)

        def delete() -> None:
            try:
                delete_all(location, layout, self._writer)
            except SirdarError as error:
                stay(error)

        try:
            self._turns.submit(delete)
        except Unavailable as error:
            stay(error)

    def restore(
        self, collection: Collection, store: Store, number: int, folder: ShardFolder, after_seq: int
    ) -> bool:
        """Takes a shard's segments from the newest snapshot that has more than `after_seq`.

        False: there is none that can be used. Whatever is wrong with one is
        logged, and the next older one is tried: the store has everything.
        """
        location = self._location
        if location is None or self._hangs:
            return False
        of = SnapshotOf.collection(collection, store.identity())
        layout = Layout(of.store, collection.generation)
        committed = store.committed_seqs(collection.generation)[number]
        for name in reversed(store.snapshots(collection.generation)):
            try:
                manifest = read_manifest(location, layout, name)
                shard = manifest.shards[number]
                if manifest.of != of or shard.covered_seq > committed:
                    log.warning("a snapshot is of another past or collection", snapshot=name)
                    NOT_RESTORED.inc()
                    continue
                if not shard.manifest:
                    # Taken where the shard was not.
                    continue
                if shard.covered_seq <= after_seq:
                    return False
                restore(location, layout, shard, folder, self._suspects)
            except (SirdarError, OSError, IndexError) as error:
                NOT_RESTORED.inc()
                log.warning(
                    "a snapshot cannot be used", snapshot=name, shard=number, error=str(error)
                )
                if isinstance(error, SirdarError) and error.reason == HANGS:
                    self._hangs = True
                    return False
            else:
                RESTORED.inc()
                log.info("restored a shard", snapshot=name, shard=number)
                return True
        return False

    def take_changed(
        self, collection: Collection, store: Store, shards: Sequence[Shard]
    ) -> Snapshot | None:
        """Takes a snapshot of these shards where anything was sealed since the last one, and waits
        for it.

        None: there was nothing to take, or it failed, which is logged.
        """
        try:
            now = tuple(_manifest(shard.folder) for shard in shards)
            if not any(now) or now == self._last.get(collection.generation.key):
                return None
            return self.submit(collection, store, shards).result()
        except (SirdarError, OSError) as error:
            log.warning(
                "no snapshot was taken",
                namespace=collection.namespace,
                collection=collection.name,
                error=str(error),
            )
            return None

    def _take(
        self,
        location: SnapshotLocation,
        collection: Collection,
        store: Store,
        folders: Mapping[int, ShardFolder],
    ) -> Snapshot:
        """As `_take_one`; raises NotFound, and leaves nothing, where the collection was deleted
        meanwhile: what deletes its snapshots may have been here before."""
        try:
            return self._take_one(location, collection, store, folders)
        finally:
            if _is_gone(collection, store):
                delete_all(location, Layout(store.identity(), collection.generation), self._writer)
                raise NotFound(
                    f"the collection {collection.namespace}/{collection.name} was deleted",
                    reason="COLLECTION_NOT_FOUND",
                )

    def _take_one(
        self,
        location: SnapshotLocation,
        collection: Collection,
        store: Store,
        folders: Mapping[int, ShardFolder],
    ) -> Snapshot:
        identity = store.identity()
        try:
            with SECONDS.time():
                before = tuple(_manifest(folder) for folder in folders.values())
                snapshot = take(
                    location,
                    collection,
                    identity,
                    folders,
                    self._suspects,
                    self._closing,
                    writer=self._writer,
                )
                kept = self._note(location, collection.generation, store, snapshot.name)
        except OSError as error:
            FAILURES.inc()
            raise Unavailable(
                f"the segments of {collection.namespace}/{collection.name} cannot be read "
                f"({error}): see to the disk of the data folder, and retry"
            ) from error
        except SirdarError:
            FAILURES.inc()
            raise
        self._last[collection.generation.key] = before
        TAKEN.labels(collection.namespace, collection.name).set(time.time())
        try:
            keep_last(location, Layout(identity, collection.generation), kept, self._writer)
        except SirdarError as error:
            # Also one of the kept that cannot be read; they are fewer after the next ones.
            log.warning("old snapshots stay", error=error.message)
        return snapshot

    def _note(
        self, location: SnapshotLocation, generation: Generation, store: Store, name: str
    ) -> list[str]:
        """Tells the store of a new snapshot; answers which of those that were taken here stay.
        Others that share the store tell it of theirs, and see to them."""
        known = store.snapshots(generation)
        mine = [item for item in known if is_by(item, self._writer)]
        kept = [*mine, name][-self._kept :]
        there = location.names(Layout(store.identity(), generation).manifests)
        forgotten = {*mine, *(item for item in known if item not in there)}.difference(kept)
        store.note_snapshot(generation, name, sorted(forgotten)).result()
        return kept


def _is_gone(collection: Collection, store: Store) -> bool:
    try:
        now = store.collection(collection.namespace, collection.name)
    except NotFound:
        return True
    return now.generation.key != collection.generation.key


def _manifest(folder: ShardFolder) -> str:
    with folder.held() as held:
        return held.manifest.decode()
