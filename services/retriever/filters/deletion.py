"""Deleting what meets a filter, in steps."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.retriever.filters.allowed import Allowed
from services.retriever.filters.columns import Columns
from services.retriever.filters.conditions import Condition
from services.retriever.shard import Shard, ShardState
from services.retriever.store.interface import Store
from services.retriever.store.records import KeyedDocument, Position
from sirdar.errors import DeadlineExceeded, Unavailable

# A step holds up other writers for some milliseconds.
_STEP_DOCUMENTS = 500
# A document that is written again between being read and being deleted is looked at again.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class FilterDeletion:
    """How many documents were deleted, or would be, and the last deletion of each shard."""

    documents: int
    positions: tuple[Position, ...]


def delete_matching(
    store: Store,
    shards: Sequence[Shard],
    condition: Condition,
    *,
    count_only: bool,
    until: float | None,
) -> FilterDeletion:
    """Deletes the documents that meet the condition now, less those that are written again
    meanwhile and no longer do.

    `until` is on time.monotonic(). Raises DeadlineExceeded, ResourceExhausted;
    what was deleted before stays deleted, and calling again goes on.
    """
    if any(shard.state is not ShardState.READY for shard in shards):
        raise Unavailable("a shard of the collection is not ready; retry later")
    if count_only:
        return FilterDeletion(_count(store, shards, condition), ())
    matching = [shard.view.allowed(condition) for shard in shards]
    deleted = 0
    positions: list[Position] = []
    for shard, allowed in zip(shards, matching, strict=True):
        keys = allowed.keys.tolist()
        for start in range(0, len(keys), _STEP_DOCUMENTS):
            if until is not None and time.monotonic() >= until:
                raise DeadlineExceeded(f"{deleted} documents were deleted so far; call again")
            done = _step(store, shard, condition, keys[start : start + _STEP_DOCUMENTS])
            deleted += len(done)
            # Of one shard only the last position counts.
            positions = [item for item in positions if item.shard != shard.number] + done[-1:]
    return FilterDeletion(deleted, tuple(positions))


def _count(store: Store, shards: Sequence[Shard], condition: Condition) -> int:
    # Before the views: what is swept in between is in none of them.
    expired = store.expired_keys(shards[0].generation)
    matching = [shard.view.allowed(condition) for shard in shards]
    count = sum(allowed.documents for allowed in matching)
    if not expired:
        return count
    return count - sum(int(np.isin(expired, allowed.keys).sum()) for allowed in matching)


def _step(store: Store, shard: Shard, condition: Condition, keys: Sequence[int]) -> list[Position]:
    """Deletes those of the documents that still meet the condition, in the version that was
    read; the positions of the deletions, in their order."""
    columns = shard.view.columns
    if columns is None:
        return []
    done: list[Position] = []
    for _ in range(_ROUNDS):
        found = store.keyed_documents(shard.generation, keys)
        meeting = set(_meeting(found, condition, columns.columns.empty()))
        chosen = [item for item in found if item.key in meeting]
        if not chosen:
            break
        deletions = store.delete_documents(
            shard.generation, [item.id for item in chosen], [item.version for item in chosen]
        ).result()
        done += [item.position for item in deletions if item.existed]
        keys = [
            item.key
            for item, deletion in zip(chosen, deletions, strict=True)
            if not deletion.existed
        ]
    return sorted(done, key=lambda item: item.seq)


def _meeting(
    documents: Sequence[KeyedDocument], condition: Condition, columns: Columns
) -> list[int]:
    """The keys of those that meet the condition as they are."""
    columns.apply((item.key, item.metadata) for item in sorted(documents, key=lambda it: it.key))
    keys: list[int] = Allowed(condition, columns.view()).keys.tolist()
    return keys
