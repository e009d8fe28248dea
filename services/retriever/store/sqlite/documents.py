"""Writing documents, in SQL: each function is a part of one job of the commit thread."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.placement import shard_of
from services.retriever.store.records import (
    Change,
    Deletion,
    DocumentWrite,
    Generation,
    Position,
    Receipt,
    WriteResult,
)
from services.retriever.store.sqlite.commit import Written
from sirdar.errors import Aborted, FailedPrecondition, NotFound, SirdarError

NO_IDS: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Existing:
    """The row of an id; `version` counts on while a deleted document's tombstone is there."""

    key: int
    version: int
    deleted: bool
    passages: int
    content_hash: bytes


def write(
    connection: sqlite3.Connection, generation: Generation, writes: Sequence[DocumentWrite]
) -> Written[list[WriteResult]]:
    """Writes in order. What is wrong with one write is found before it changes anything."""
    _check_generation(connection, generation)
    now = time.time_ns()
    results: list[WriteResult] = []
    changes: list[Change] = []
    for item in writes:
        existing = _existing(connection, generation, item.id)
        try:
            _check(item, existing)
        except SirdarError as error:
            results.append(error)
            continue
        if item.keep_passages and existing is not None:
            receipt, change = _keep(connection, generation, item, existing, now)
        else:
            receipt, change = _replace(connection, generation, item, existing, now)
        results.append(receipt)
        changes.append(change)
    return Written(results, tuple(changes))


def delete(
    connection: sqlite3.Connection, generation: Generation, ids: Sequence[str]
) -> Written[list[Deletion]]:
    """Leaves tombstones; an id that is not there is no change."""
    _check_generation(connection, generation)
    now = time.time_ns()
    deletions: list[Deletion] = []
    changes: list[Change] = []
    for document_id in ids:
        existing = _existing(connection, generation, document_id)
        if existing is None or existing.deleted:
            shard = shard_of(document_id, generation.shards)
            deletions.append(Deletion(False, _last_position(connection, generation, shard)))
            continue
        position = _next_position(connection, generation, document_id, -1, -existing.passages)
        connection.execute("DELETE FROM passage WHERE document_key = ?", (existing.key,))
        connection.execute(
            "UPDATE document SET seq = ?, deleted = 1, passages = 0, unchanged = 0,"
            " written_ns = ?, content_hash = x'', title = '', metadata = x'', text = '',"
            " expires_ns = NULL"
            " WHERE key = ?",
            (position.seq, now, existing.key),
        )
        deletions.append(Deletion(True, position))
        changes.append(Change(position, existing.key, NO_IDS, np.empty((0, 0), np.float16)))
    return Written(deletions, tuple(changes))


def _check_generation(connection: sqlite3.Connection, generation: Generation) -> None:
    """The collection may have been deleted since its definition was read."""
    row = connection.execute(
        "SELECT c.dropped FROM generation g JOIN collection c ON c.key = g.collection_key"
        " WHERE g.key = ?",
        (generation.key,),
    ).fetchone()
    if row is None or row[0]:
        raise NotFound("the collection was deleted", reason="COLLECTION_NOT_FOUND")


def _existing(
    connection: sqlite3.Connection, generation: Generation, document_id: str
) -> _Existing | None:
    row = connection.execute(
        "SELECT key, version, deleted, passages, content_hash FROM document"
        " WHERE generation_key = ? AND id = ?",
        (generation.key, document_id),
    ).fetchone()
    return _Existing(row[0], row[1], bool(row[2]), row[3], row[4]) if row else None


def _check(item: DocumentWrite, existing: _Existing | None) -> None:
    live = existing if existing is not None and not existing.deleted else None
    if item.if_version is not None:
        version = live.version if live else 0
        if version != item.if_version:
            raise Aborted(
                f"document {item.id!r} has version {version}, not {item.if_version}; "
                "read it again and decide",
                metadata={"version": str(version)},
            )
    if item.keep_passages and (live is None or live.content_hash != item.content_hash):
        raise FailedPrecondition(
            f"the store has other content of document {item.id!r}; "
            "write it with its passages and vectors",
            reason="CONTENT_CHANGED",
        )


def _keep(
    connection: sqlite3.Connection,
    generation: Generation,
    item: DocumentWrite,
    existing: _Existing,
    now_ns: int,
) -> tuple[Receipt, Change]:
    """New metadata; text and title are what they were, since their hash is."""
    position = _next_position(connection, generation, item.id, 0, 0)
    version = existing.version + 1
    connection.execute(
        "UPDATE document SET seq = ?, version = ?, unchanged = 1, written_ns = ?, metadata = ?,"
        " expires_ns = ? WHERE key = ?",
        (position.seq, version, now_ns, item.metadata, item.expires_ns, existing.key),
    )
    receipt = Receipt(position, version, existing.passages, True, now_ns)
    return receipt, Change(
        position,
        existing.key,
        NO_IDS,
        np.empty((0, 0), np.float16),
        kept=True,
        metadata=item.metadata,
    )


def _replace(
    connection: sqlite3.Connection,
    generation: Generation,
    item: DocumentWrite,
    existing: _Existing | None,
    now_ns: int,
) -> tuple[Receipt, Change]:
    passages = len(item.spans)
    position = _next_position(
        connection,
        generation,
        item.id,
        1 if existing is None or existing.deleted else 0,
        passages - (existing.passages if existing else 0),
    )
    version = existing.version + 1 if existing else 1
    if existing is not None and existing.passages:
        connection.execute("DELETE FROM passage WHERE document_key = ?", (existing.key,))
    (key,) = connection.execute(
        "INSERT INTO document (generation_key, shard, seq, deleted, id, version, passages,"
        " unchanged, written_ns, content_hash, title, metadata, text, expires_ns)"
        " VALUES (?, ?, ?, 0, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (generation_key, id) DO UPDATE SET seq = excluded.seq, deleted = 0,"
        " version = excluded.version, passages = excluded.passages, unchanged = 0,"
        " written_ns = excluded.written_ns, content_hash = excluded.content_hash,"
        " title = excluded.title, metadata = excluded.metadata, text = excluded.text,"
        " expires_ns = excluded.expires_ns"
        " RETURNING key",
        (
            generation.key,
            position.shard,
            position.seq,
            item.id,
            version,
            passages,
            now_ns,
            item.content_hash,
            item.title,
            item.metadata,
            item.text,
            item.expires_ns,
        ),
    ).fetchone()
    ids = _insert_passages(connection, key, item)
    return Receipt(position, version, passages, False, now_ns), Change(
        position,
        key,
        ids,
        item.vectors,
        metadata=item.metadata,
        title=item.title,
        text=item.text,
        spans=item.spans,
    )


def _insert_passages(
    connection: sqlite3.Connection, document_key: int, item: DocumentWrite
) -> NDArray[np.int64]:
    ids = [
        connection.execute(
            "INSERT INTO passage (document_key, position, span_start, span_end)"
            " VALUES (?, ?, ?, ?)",
            (document_key, index, start, end),
        ).lastrowid
        for index, (start, end) in enumerate(item.spans)
    ]
    vectors = item.vectors.astype("<f2", copy=False)
    connection.executemany(
        "INSERT INTO vector (passage_id, data) VALUES (?, ?)",
        [(passage_id, row.tobytes()) for passage_id, row in zip(ids, vectors, strict=True)],
    )
    return np.array(ids, np.int64)


def _next_position(
    connection: sqlite3.Connection,
    generation: Generation,
    document_id: str,
    documents: int,
    passages: int,
) -> Position:
    """Takes the next sequence of the document's shard and counts what the write adds.

    Its row stays locked until the commit, so sequences are committed in their
    order and without a gap.
    """
    shard = shard_of(document_id, generation.shards)
    (seq,) = connection.execute(
        "UPDATE shard SET seq = seq + 1, documents = documents + ?, passages = passages + ?"
        " WHERE generation_key = ? AND shard = ? RETURNING seq",
        (documents, passages, generation.key, shard),
    ).fetchone()
    return Position(generation.key, shard, seq)


def _last_position(connection: sqlite3.Connection, generation: Generation, shard: int) -> Position:
    (seq,) = connection.execute(
        "SELECT seq FROM shard WHERE generation_key = ? AND shard = ?", (generation.key, shard)
    ).fetchone()
    return Position(generation.key, shard, seq)
