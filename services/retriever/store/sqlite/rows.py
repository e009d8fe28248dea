"""The rows of documents, many at a time: a statement for each document would cost a batch of
one-passage documents half of its time."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.records import DocumentWrite, Position

_EXISTING = "key, shard, id, version, deleted, passages, content_hash, expires_ns, metadata"


@dataclass(frozen=True, slots=True)
class Existing:
    """The row of an id; `version` counts on while a deleted document's tombstone is there."""

    key: int
    shard: int
    id: str
    version: int
    deleted: bool
    passages: int
    content_hash: bytes
    expires_ns: int | None
    metadata: bytes

    def live(self, now_ns: int) -> bool:
        """Not deleted, and not about to be as its time is over."""
        return not self.deleted and (self.expires_ns is None or self.expires_ns > now_ns)


class Placed(NamedTuple):
    """A document to be written with its passages."""

    write: DocumentWrite
    before: Existing | None
    position: Position

    @property
    def version(self) -> int:
        return self.before.version + 1 if self.before else 1


class Kept(NamedTuple):
    """A document whose passages stay."""

    before: Existing
    position: Position
    metadata: bytes
    expires_ns: int | None


def existing(
    connection: sqlite3.Connection, generation_key: int, ids: Sequence[str]
) -> dict[str, Existing]:
    """By id, those that have a row."""
    rows = connection.execute(
        f"SELECT {_EXISTING} FROM document WHERE generation_key = ?"
        " AND id IN (SELECT value FROM json_each(?))",
        (generation_key, json.dumps(ids)),
    )
    return {item.id: item for item in _existing(rows)}


def expired(connection: sqlite3.Connection, now_ns: int, limit: int) -> dict[int, list[Existing]]:
    """By generation, some of the documents whose time is over, the longest over first.

    Those of deleted collections go with them.
    """
    rows = connection.execute(
        f"SELECT generation_key, {_EXISTING} FROM document"
        " WHERE expires_ns <= ? AND generation_key IN (SELECT g.key FROM generation g"
        " JOIN collection c ON c.key = g.collection_key WHERE NOT c.dropped)"
        " ORDER BY expires_ns LIMIT ?",
        (now_ns, limit),
    ).fetchall()
    found: dict[int, list[Existing]] = {}
    for row, item in zip(rows, _existing(row[1:] for row in rows), strict=True):
        found.setdefault(row[0], []).append(item)
    return found


def place(
    connection: sqlite3.Connection, placed: Sequence[Placed], now_ns: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """Writes documents whole; the key and the passage ids of each."""
    _remove_passages(
        connection, (item.before.key for item in placed if item.before and item.before.passages)
    )
    following = _last_id(connection, "document") + 1
    keys: list[int] = []
    for item in placed:
        keys.append(item.before.key if item.before else following)
        following += 0 if item.before else 1
    _write_documents(connection, placed, keys, now_ns)
    return list(zip(keys, _write_passages(connection, placed, keys), strict=True))


def keep(connection: sqlite3.Connection, kept: Iterable[Kept], now_ns: int) -> None:
    """New metadata and expiry; the rest is what it was."""
    connection.executemany(
        "UPDATE document SET seq = ?, version = ?, unchanged = 1, written_ns = ?, metadata = ?,"
        " expires_ns = ? WHERE key = ?",
        [
            (
                item.position.seq,
                item.before.version + 1,
                now_ns,
                item.metadata,
                item.expires_ns,
                item.before.key,
            )
            for item in kept
        ],
    )


def bury(
    connection: sqlite3.Connection, dead: Sequence[tuple[Existing, Position]], now_ns: int
) -> None:
    """Leaves tombstones."""
    _remove_passages(connection, (item.key for item, _ in dead))
    connection.executemany(
        "UPDATE document SET seq = ?, deleted = 1, passages = 0, unchanged = 0,"
        " written_ns = ?, content_hash = x'', title = '', metadata = x'', expires_ns = NULL,"
        " text = '' WHERE key = ?",
        [(position.seq, now_ns, item.key) for item, position in dead],
    )


def _existing(rows: Iterable[tuple[Any, ...]]) -> Iterator[Existing]:
    for row in rows:
        key, shard, identity, version, deleted, *rest = row
        yield Existing(key, shard, identity, version, bool(deleted), *rest)


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    """The highest id that the table ever had: those are never given again."""
    (last,) = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", (table,)
    ).fetchone()
    return int(last)


def _remove_passages(connection: sqlite3.Connection, keys: Iterable[int]) -> None:
    gone = list(keys)
    if gone:
        connection.execute(
            "DELETE FROM passage WHERE document_key IN (SELECT value FROM json_each(?))",
            (json.dumps(gone),),
        )


def _write_documents(
    connection: sqlite3.Connection, placed: Sequence[Placed], keys: Sequence[int], now_ns: int
) -> None:
    new: list[tuple[object, ...]] = []
    old: list[tuple[object, ...]] = []
    for key, item in zip(keys, placed, strict=True):
        write, position = item.write, item.position
        content = (
            len(write.spans),
            now_ns,
            write.content_hash,
            write.title,
            write.metadata,
            write.expires_ns,
            write.text,
        )
        if item.before is None:
            new.append(
                (key, position.generation_key, position.shard, position.seq, write.id, *content)
            )
        else:
            old.append((position.seq, item.version, *content, key))
    connection.executemany(
        "INSERT INTO document (key, generation_key, shard, seq, id, deleted, version, unchanged,"
        " passages, written_ns, content_hash, title, metadata, expires_ns, text)"
        " VALUES (?, ?, ?, ?, ?, 0, 1, 0, ?, ?, ?, ?, ?, ?, ?)",
        new,
    )
    connection.executemany(
        "UPDATE document SET seq = ?, version = ?, deleted = 0, unchanged = 0, passages = ?,"
        " written_ns = ?, content_hash = ?, title = ?, metadata = ?, expires_ns = ?, text = ?"
        " WHERE key = ?",
        old,
    )


def _write_passages(
    connection: sqlite3.Connection, placed: Sequence[Placed], keys: Sequence[int]
) -> list[NDArray[np.int64]]:
    total = sum(len(item.write.spans) for item in placed)
    first = _last_id(connection, "passage") + 1
    ids = iter(range(first, first + total))
    of_documents = [list(islice(ids, len(item.write.spans))) for item in placed]
    connection.executemany(
        "INSERT INTO passage (id, document_key, position, span_start, span_end)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (passage_id, key, at, start, end)
            for key, item, own in zip(keys, placed, of_documents, strict=True)
            for at, (passage_id, (start, end)) in enumerate(zip(own, item.write.spans, strict=True))
        ],
    )
    connection.executemany(
        "INSERT INTO vector (passage_id, data) VALUES (?, ?)",
        [
            (passage_id, row.tobytes())
            for item, own in zip(placed, of_documents, strict=True)
            for passage_id, row in zip(
                own, item.write.vectors.astype("<f2", copy=False), strict=True
            )
        ],
    )
    return [np.array(own, np.int64) for own in of_documents]
