"""Writing documents: each function is one job of the commit thread.

`now_ns` is what the clock says. It decides what is expired and is told in
receipts; order, versions and what an index has applied come from sequences
alone, so that a clock that jumps back changes none of them.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.group_commit import Written
from services.retriever.store.placement import shard_of
from services.retriever.store.records import (
    Change,
    Deletion,
    DocumentPatch,
    DocumentWrite,
    Generation,
    Position,
    Receipt,
    WriteResult,
)
from services.retriever.store.rows import DocumentRows, Existing, Kept, Placed, Step
from sirdar.errors import Aborted, FailedPrecondition, NotFound, SirdarError

T = TypeVar("T")

NO_IDS: NDArray[np.int64] = np.empty(0, np.int64)
_NO_VECTORS: NDArray[np.float16] = np.empty((0, 0), np.float16)

_Outcome = SirdarError | tuple[Receipt, Change]


def write(
    rows: DocumentRows,
    generation: Generation,
    writes: Sequence[DocumentWrite],
    now_ns: int,
) -> Written[list[WriteResult]]:
    """Writes in order. What is wrong with one write is found before it changes anything."""
    _check_generation(rows, generation)
    outcomes: list[_Outcome] = []
    for run in _runs(writes, lambda item: item.id):
        outcomes.extend(_write_run(rows, generation, run, now_ns))
    return _written(outcomes)


def update(
    rows: DocumentRows,
    generation: Generation,
    patches: Sequence[DocumentPatch],
    now_ns: int,
) -> Written[list[WriteResult]]:
    """Changes metadata and expiry in order; as `write`."""
    _check_generation(rows, generation)
    outcomes: list[_Outcome] = []
    for run in _runs(patches, lambda item: item.id):
        outcomes.extend(_update_run(rows, generation, run, now_ns))
    return _written(outcomes)


def delete(
    rows: DocumentRows,
    generation: Generation,
    ids: Sequence[str],
    now_ns: int,
    versions: Sequence[int] | None = None,
) -> Written[list[Deletion]]:
    """Leaves tombstones; an id that is not there, or has another version, is no change."""
    _check_generation(rows, generation)
    known = rows.existing(generation.key, ids)
    there = {item.id: item for item in known.values() if not item.deleted}
    if versions is not None:
        asked = dict(zip(ids, versions, strict=True))
        there = {key: item for key, item in there.items() if item.version == asked[key]}
    changes = _bury(rows, generation.key, list(there.values()), now_ns)
    buried = dict(zip(there, changes, strict=True))
    last = rows.last(generation.key)
    deletions: list[Deletion] = []
    for document_id in ids:
        change = buried.pop(document_id, None)
        if change is not None:
            deletions.append(Deletion(there[document_id].live(now_ns), change.position))
        else:
            shard = shard_of(document_id, generation.shards)
            deletions.append(Deletion(False, Position(generation.key, shard, last[shard])))
    return Written(deletions, tuple(changes))


def sweep(rows: DocumentRows, now_ns: int, limit: int) -> Written[int]:
    """Deletes so many of the documents whose time is over; answers how many there were."""
    changes: list[Change] = []
    for generation_key, dead in rows.expired(now_ns, limit).items():
        changes.extend(_bury(rows, generation_key, dead, now_ns))
    return Written(len(changes), tuple(changes))


def purge(rows: DocumentRows, before_ns: int, limit: int) -> Written[int]:
    """Removes so many of the tombstones that were left before; answers how many there were."""
    return Written(rows.purge(before_ns, limit), ())


def _check_generation(rows: DocumentRows, generation: Generation) -> None:
    """The collection may have been deleted since its definition was read."""
    if not rows.has_generation(generation.key):
        raise NotFound("the collection was deleted", reason="COLLECTION_NOT_FOUND")


def _runs(items: Sequence[T], identity: Callable[[T], Hashable]) -> Iterator[Sequence[T]]:
    """The items in order, in parts in which none is there twice: a document that is written
    twice is found by its second write."""
    start = 0
    seen: set[Hashable] = set()
    for at, item in enumerate(items):
        key = identity(item)
        if key in seen:
            yield items[start:at]
            start = at
            seen.clear()
        seen.add(key)
    yield items[start:]


def _written(outcomes: Sequence[_Outcome]) -> Written[list[WriteResult]]:
    results = [item if isinstance(item, SirdarError) else item[0] for item in outcomes]
    changes = [item[1] for item in outcomes if not isinstance(item, SirdarError)]
    return Written(results, tuple(changes))


def _write_run(
    rows: DocumentRows,
    generation: Generation,
    run: Sequence[DocumentWrite],
    now_ns: int,
) -> list[_Outcome]:
    known = rows.existing(generation.key, [item.id for item in run])
    outcomes: dict[str, _Outcome] = {}
    accepted: list[tuple[DocumentWrite, Existing | None]] = []
    for item in run:
        before = known.get(item.id)
        try:
            _check_write(item, before, now_ns)
        except SirdarError as error:
            outcomes[item.id] = error
        else:
            accepted.append((item, before))
    steps = [_step(generation, item, before) for item, before in accepted]
    placed: list[Placed] = []
    kept: list[Kept] = []
    taken = rows.take(generation.key, steps)
    for (item, before), position in zip(accepted, taken, strict=True):
        if item.keep_passages and before is not None:
            kept.append(Kept(before, position, item.metadata, item.expires_ns))
        else:
            placed.append(Placed(item, before, position))
    outcomes.update(_keep(rows, kept, now_ns))
    outcomes.update(_place(rows, placed, now_ns))
    return [outcomes[item.id] for item in run]


def _step(generation: Generation, item: DocumentWrite, before: Existing | None) -> Step:
    if item.keep_passages and before is not None:
        return Step(before.shard)
    return Step(
        before.shard if before else shard_of(item.id, generation.shards),
        1 if before is None or before.deleted else 0,
        len(item.spans) - (before.passages if before else 0),
    )


def _update_run(
    rows: DocumentRows,
    generation: Generation,
    run: Sequence[DocumentPatch],
    now_ns: int,
) -> list[_Outcome]:
    known = rows.existing(generation.key, [item.id for item in run])
    outcomes: dict[str, _Outcome] = {}
    accepted: list[tuple[Existing, bytes, int | None]] = []
    for item in run:
        try:
            before = _live(known.get(item.id), item.id, now_ns)
            _check_version(item.id, item.if_version, before.version)
            expires_ns = item.expires_ns if item.changes_expiry else before.expires_ns
            accepted.append((before, item.change(before.metadata), expires_ns))
        except SirdarError as error:
            outcomes[item.id] = error
    taken = rows.take(generation.key, [Step(before.shard) for before, _, _ in accepted])
    kept = [
        Kept(before, position, metadata, expires_ns)
        for (before, metadata, expires_ns), position in zip(accepted, taken, strict=True)
    ]
    outcomes.update(_keep(rows, kept, now_ns))
    return [outcomes[item.id] for item in run]


def _live(existing: Existing | None, document_id: str, now_ns: int) -> Existing:
    if existing is None or not existing.live(now_ns):
        raise NotFound(
            f"there is no document {document_id!r}; write it first", reason="DOCUMENT_NOT_FOUND"
        )
    return existing


def _check_write(item: DocumentWrite, existing: Existing | None, now_ns: int) -> None:
    live = existing if existing is not None and existing.live(now_ns) else None
    _check_version(item.id, item.if_version, live.version if live else 0)
    if item.keep_passages and (live is None or live.content_hash != item.content_hash):
        raise FailedPrecondition(
            f"the store has other content of document {item.id!r}; "
            "write it with its passages and vectors",
            reason="CONTENT_CHANGED",
        )


def _check_version(document_id: str, wanted: int | None, version: int) -> None:
    if wanted is not None and version != wanted:
        raise Aborted(
            f"document {document_id!r} has version {version}, not {wanted}; "
            "read it again and decide",
            metadata={"version": str(version)},
        )


def _keep(rows: DocumentRows, kept: Sequence[Kept], now_ns: int) -> Iterator[tuple[str, _Outcome]]:
    rows.keep(kept, now_ns)
    for before, position, metadata, _ in kept:
        receipt = Receipt(position, before.version + 1, before.passages, True, now_ns)
        change = Change(position, before.key, NO_IDS, _NO_VECTORS, kept=True, metadata=metadata)
        yield before.id, (receipt, change)


def _place(
    rows: DocumentRows, placed: Sequence[Placed], now_ns: int
) -> Iterator[tuple[str, _Outcome]]:
    written = rows.place(placed, now_ns)
    for item, (key, passage_ids) in zip(placed, written, strict=True):
        write = item.write
        receipt = Receipt(item.position, item.version, len(passage_ids), False, now_ns)
        change = Change(
            item.position,
            key,
            passage_ids,
            write.vectors,
            metadata=write.metadata,
            title=write.title,
            text=write.text,
            spans=write.spans,
        )
        yield write.id, (receipt, change)


def _bury(
    rows: DocumentRows, generation_key: int, dead: Sequence[Existing], now_ns: int
) -> list[Change]:
    taken = rows.take(generation_key, [Step(item.shard, -1, -item.passages) for item in dead])
    rows.bury(list(zip(dead, taken, strict=True)), now_ns)
    return [
        Change(position, item.key, NO_IDS, _NO_VECTORS)
        for item, position in zip(dead, taken, strict=True)
    ]
