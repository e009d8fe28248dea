"""The rows of documents in SQL."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.records import Position
from services.retriever.store.rows import Existing, Kept, Placed, Step
from services.retriever.store.sqlite import positions

_EXISTING = "key, shard, id, version, deleted, passages, content_hash, expires_ns, metadata"


class SqliteRows:
    """Implements `DocumentRows`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def has_generation(self, generation_key: int) -> bool:
        row = self._connection.execute(
            "SELECT c.dropped FROM generation g JOIN collection c ON c.key = g.collection_key"
            " WHERE g.key = ?",
            (generation_key,),
        ).fetchone()
        return row is not None and not row[0]

    def existing(self, generation_key: int, ids: Sequence[str]) -> dict[str, Existing]:
        rows = self._connection.execute(
            f"SELECT {_EXISTING} FROM document WHERE generation_key = ?"
            " AND id IN (SELECT value FROM json_each(?))",
            (generation_key, json.dumps(ids)),
        )
        return {item.id: item for item in _existing(rows)}

    def expired(self, now_ns: int, limit: int) -> dict[int, list[Existing]]:
        rows = self._connection.execute(
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

    def place(self, placed: Sequence[Placed], now_ns: int) -> list[tuple[int, NDArray[np.int64]]]:
        self._remove_passages(
            item.before.key for item in placed if item.before and item.before.passages
        )
        following = self._last_id("document") + 1
        keys: list[int] = []
        for item in placed:
            keys.append(item.before.key if item.before else following)
            following += 0 if item.before else 1
        self._write_documents(placed, keys, now_ns)
        return list(zip(keys, self._write_passages(placed, keys), strict=True))

    def keep(self, kept: Iterable[Kept], now_ns: int) -> None:
        self._connection.executemany(
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

    def bury(self, dead: Sequence[tuple[Existing, Position]], now_ns: int) -> None:
        self._remove_passages((item.key for item, _ in dead))
        self._connection.executemany(
            "UPDATE document SET seq = ?, deleted = 1, passages = 0, unchanged = 0,"
            " written_ns = ?, content_hash = x'', title = '', metadata = x'', expires_ns = NULL,"
            " text = '' WHERE key = ?",
            [(position.seq, now_ns, item.key) for item, position in dead],
        )

    def purge(self, before_ns: int, limit: int) -> int:
        gone = self._connection.execute(
            "DELETE FROM document WHERE key IN (SELECT key FROM document"
            " WHERE deleted AND written_ns < ? ORDER BY written_ns LIMIT ?)"
            " RETURNING generation_key, shard, seq",
            (before_ns, limit),
        ).fetchall()
        self._connection.executemany(
            "UPDATE shard SET purged_seq = max(purged_seq, ?3)"
            " WHERE generation_key = ?1 AND shard = ?2",
            gone,
        )
        return len(gone)

    def take(self, generation_key: int, steps: Sequence[Step]) -> list[Position]:
        by_shard: dict[int, list[Step]] = {}
        for step in steps:
            by_shard.setdefault(step.shard, []).append(step)
        following: dict[int, int] = {}
        for shard, own in by_shard.items():
            (last,) = self._connection.execute(
                "UPDATE shard SET seq = seq + ?, documents = documents + ?, passages = passages + ?"
                " WHERE generation_key = ? AND shard = ? RETURNING seq",
                (
                    len(own),
                    sum(step.documents for step in own),
                    sum(step.passages for step in own),
                    generation_key,
                    shard,
                ),
            ).fetchone()
            following[shard] = last - len(own) + 1
        positions = []
        for step in steps:
            positions.append(Position(generation_key, step.shard, following[step.shard]))
            following[step.shard] += 1
        return positions

    def last(self, generation_key: int) -> list[int]:
        return positions.last(self._connection, generation_key)

    def _last_id(self, table: str) -> int:
        """The highest id that the table ever had: those are never given again."""
        (last,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", (table,)
        ).fetchone()
        return int(last)

    def _remove_passages(self, keys: Iterable[int]) -> None:
        gone = list(keys)
        if gone:
            self._connection.execute(
                "DELETE FROM passage WHERE document_key IN (SELECT value FROM json_each(?))",
                (json.dumps(gone),),
            )

    def _write_documents(self, placed: Sequence[Placed], keys: Sequence[int], now_ns: int) -> None:
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
        self._connection.executemany(
            "INSERT INTO document (key, generation_key, shard, seq, id, deleted, version,"
            " unchanged, passages, written_ns, content_hash, title, metadata, expires_ns, text)"
            " VALUES (?, ?, ?, ?, ?, 0, 1, 0, ?, ?, ?, ?, ?, ?, ?)",
            new,
        )
        self._connection.executemany(
            "UPDATE document SET seq = ?, version = ?, deleted = 0, unchanged = 0, passages = ?,"
            " written_ns = ?, content_hash = ?, title = ?, metadata = ?, expires_ns = ?, text = ?"
            " WHERE key = ?",
            old,
        )

    def _write_passages(
        self, placed: Sequence[Placed], keys: Sequence[int]
    ) -> list[NDArray[np.int64]]:
        total = sum(len(item.write.spans) for item in placed)
        first = self._last_id("passage") + 1
        ids = iter(range(first, first + total))
        of_documents = [list(islice(ids, len(item.write.spans))) for item in placed]
        self._connection.executemany(
            "INSERT INTO passage (id, document_key, position, span_start, span_end)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (passage_id, key, at, start, end)
                for key, item, own in zip(keys, placed, of_documents, strict=True)
                for at, (passage_id, (start, end)) in enumerate(
                    zip(own, item.write.spans, strict=True)
                )
            ],
        )
        self._connection.executemany(
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


def _existing(rows: Iterable[tuple[Any, ...]]) -> Iterator[Existing]:
    for row in rows:
        key, shard, identity, version, deleted, *rest = row
        yield Existing(key, shard, identity, version, bool(deleted), *rest)
