"""Bringing a shard to where the log of its store is."""

import structlog

from services.retriever.shard import Shard
from services.retriever.store.interface import Store
from services.retriever.store.records import Change
from services.retriever.store.tombstones import TombstonesPurged

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_REPLAY_CHANGES = 1000


def replay(shard: Shard, store: Store) -> None:
    """Applies the log beyond where the shard is. While nobody else does."""
    while True:
        try:
            _read_log(shard, store)
            return
        except TombstonesPurged as error:
            miss_no_deletion(shard, store, error)


def miss_no_deletion(shard: Shard, store: Store, error: TombstonesPurged) -> None:
    """The log may be read on from where the shard is: it has nothing that is gone."""
    log.info(
        "deletions are looked for",
        generation=shard.generation.key,
        shard=shard.number,
        why=error.message,
    )
    shard.keep_only(store.document_keys(shard.generation, shard.number))


def _read_log(shard: Shard, store: Store) -> None:
    batch: list[Change] = []
    for change in store.changes(
        shard.generation, shard.number, shard.replayed_seq, shard.purged_seq
    ):
        batch.append(change)
        if len(batch) == _REPLAY_CHANGES:
            shard.apply(batch)
            batch = []
    if batch:
        shard.apply(batch)
