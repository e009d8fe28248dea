"""The rows of documents in SQL."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.group_commit import ShardKey
from services.retriever.store.postgres import positions
from services.retriever.store.postgres.transaction import Transaction
from services.retriever.store.records import Position
from services.retriever.store.rows import Existing, Kept, Placed, Step

_EXISTING = "key, shard, id, version, deleted, passages, content_hash, expires_ns, metadata"

_EXPIRED = (
    "expires_ns <= %s AND generation_key IN (SELECT g.key FROM generation g"
    " JOIN collection c ON c.key = g.collection_key WHERE NOT c.dropped)"
    " ORDER BY expires_ns LIMIT %s"
)
_OLD_TOMBSTONES = "deleted AND written_ns < %s ORDER BY written_ns LIMIT %s"
# Of the columns that `_insert_documents` names.
_DOCUMENT_TYPES = (
    *("int8", "int8", "int4", "int8", "bool", "int8", "int4", "bool", "int8", "int8"),
    *("text", "bytea", "text", "bytea", "text"),
)


class PostgresRows:
    """Implements `DocumentRows`, with the shards locked that are written."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._connection = transaction.connection

    def has_generation(self, generation_key: int) -> bool:
        row = self._connection.execute(
            "SELECT c.dropped FROM generation g JOIN collection c ON c.key = g.collection_key"
            " WHERE g.key = %s",
            (generation_key,),
        ).fetchone()
        return row is not None and not row[0]

    def existing(self, generation_key: int, ids: Sequence[str]) -> dict[str, Existing]:
        rows: Any = self._connection.execute(
            f"SELECT {_EXISTING} FROM document WHERE generation_key = %s AND id = ANY(%s)",
            (generation_key, list(ids)),
            binary=True,
        )
        return {item.id: item for item in (Existing(*row) for row in rows)}

    def expired(self, now_ns: int, limit: int) -> dict[int, list[Existing]]:
        """Of the locked shards alone; others are for the next time."""
        rows: Any = self._connection.execute(
            f"SELECT generation_key, {_EXISTING} FROM document WHERE {_EXPIRED}",
            (now_ns, limit),
            binary=True,
        )
        found: dict[int, list[Existing]] = {}
        for generation_key, *row in rows:
            item = Existing(*row)
            if (generation_key, item.shard) in self._transaction.locked:
                found.setdefault(generation_key, []).append(item)
        return found

    def take(self, generation_key: int, steps: Sequence[Step]) -> list[Position]:
        by_shard: dict[int, list[Step]] = {}
        for step in steps:
            by_shard.setdefault(step.shard, []).append(step)
        if unlocked := {(generation_key, shard) for shard in by_shard} - self._transaction.locked:
            raise RuntimeError(f"shards {unlocked} are written without their locks")
        rows: Any = self._connection.execute(
            "UPDATE shard SET seq = seq + taken, documents = shard.documents + step.documents,"
            " passages = shard.passages + step.passages"
            " FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " AS step (shard, taken, documents, passages)"
            " WHERE generation_key = %s AND shard.shard = step.shard RETURNING shard.shard, seq",
            (
                list(by_shard),
                [len(own) for own in by_shard.values()],
                [sum(step.documents for step in own) for own in by_shard.values()],
                [sum(step.passages for step in own) for own in by_shard.values()],
                generation_key,
            ),
        )
        following = {shard: last - len(by_shard[shard]) + 1 for shard, last in rows}
        taken = []
        for step in steps:
            taken.append(Position(generation_key, step.shard, following[step.shard]))
            following[step.shard] += 1
        return taken

    def last(self, generation_key: int) -> list[int]:
        return positions.last(self._connection, generation_key)

    def place(self, placed: Sequence[Placed], now_ns: int) -> list[tuple[int, NDArray[np.int64]]]:
        if not placed:
            return []
        self._remove_passages(
            item.before.key for item in placed if item.before and item.before.passages
        )
        new = [item for item in placed if item.before is None]
        fresh = iter(self._ids("document_key", len(new)))
        keys = [item.before.key if item.before else next(fresh) for item in placed]
        keyed = list(zip(keys, placed, strict=True))
        self._insert_documents([pair for pair in keyed if pair[1].before is None], now_ns)
        self._update_documents([pair for pair in keyed if pair[1].before is not None], now_ns)
        return list(zip(keys, self._write_passages(placed, keys), strict=True))

    def keep(self, kept: Sequence[Kept], now_ns: int) -> None:
        if not kept:
            return
        self._connection.execute(
            "UPDATE document SET seq = kept.seq, version = version + 1, unchanged = TRUE,"
            " written_ns = %s, metadata = kept.metadata, expires_ns = kept.expires_ns"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[])"
            " AS kept (key, seq, metadata, expires_ns) WHERE document.key = kept.key",
            (
                now_ns,
                [item.before.key for item in kept],
                [item.position.seq for item in kept],
                [item.metadata for item in kept],
                [item.expires_ns for item in kept],
            ),
        )

    def bury(self, dead: Sequence[tuple[Existing, Position]], now_ns: int) -> None:
        if not dead:
            return
        self._remove_passages(item.key for item, _ in dead)
        self._connection.execute(
            "UPDATE document SET seq = dead.seq, deleted = TRUE, passages = 0, unchanged = FALSE,"
            " written_ns = %s, content_hash = '', title = '', metadata = '', expires_ns = NULL,"
            " text = '' FROM unnest(%s::bigint[], %s::bigint[]) AS dead (key, seq)"
            " WHERE document.key = dead.key",
            (now_ns, [item.key for item, _ in dead], [position.seq for _, position in dead]),
        )

    def purge(self, before_ns: int, limit: int) -> int:
        """Of the locked shards alone; others are for the next time."""
        locked = list(self._transaction.locked)
        row: Any = self._connection.execute(
            "WITH old AS (SELECT key FROM document JOIN unnest(%s::bigint[], %s::integer[])"
            " AS locked (generation_key, shard) USING (generation_key, shard)"
            f" WHERE {_OLD_TOMBSTONES}),"
            " gone AS (DELETE FROM document USING old WHERE document.key = old.key"
            " RETURNING generation_key, shard, seq),"
            " last AS (SELECT generation_key, shard, max(seq) AS seq FROM gone GROUP BY 1, 2),"
            " noted AS (UPDATE shard SET purged_seq = greatest(purged_seq, last.seq) FROM last"
            " WHERE shard.generation_key = last.generation_key AND shard.shard = last.shard)"
            " SELECT count(*) FROM gone",
            ([key for key, _ in locked], [number for _, number in locked], before_ns, limit),
        ).fetchone()
        return int(row[0]) if row else 0

    def _ids(self, sequence: str, count: int) -> list[int]:
        """New ones, ascending. They are taken while their shard is locked, so that those of a
        shard's new documents ascend with its sequences."""
        rows: Any = self._connection.execute(
            "SELECT nextval(%s) FROM generate_series(1, %s)", (sequence, count)
        )
        return sorted(found for (found,) in rows)

    def _remove_passages(self, keys: Iterable[int]) -> None:
        gone = list(keys)
        if gone:
            self._connection.execute(
                "WITH gone AS (DELETE FROM passage WHERE document_key = ANY(%s) RETURNING id)"
                " DELETE FROM vector USING gone WHERE passage_id = gone.id",
                (gone,),
            )

    def _insert_documents(self, placed: Sequence[tuple[int, Placed]], now_ns: int) -> None:
        if not placed:
            return
        with self._connection.cursor().copy(
            "COPY document (key, generation_key, shard, seq, deleted, version, passages,"
            " unchanged, written_ns, expires_ns, id, content_hash, title, metadata, text)"
            " FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(_DOCUMENT_TYPES)
            for key, (write, _, position) in placed:
                copy.write_row(
                    (
                        *(key, position.generation_key, position.shard, position.seq),
                        *(False, 1, len(write.spans), False, now_ns, write.expires_ns),
                        *(write.id, write.content_hash, write.title, write.metadata, write.text),
                    )
                )

    def _update_documents(self, placed: Sequence[tuple[int, Placed]], now_ns: int) -> None:
        if not placed:
            return
        self._connection.execute(
            "UPDATE document SET seq = new.seq, version = new.version, deleted = FALSE,"
            " unchanged = FALSE, passages = new.passages, written_ns = %s,"
            " content_hash = new.content_hash, title = new.title, metadata = new.metadata,"
            " expires_ns = new.expires_ns, text = new.text"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::bytea[],"
            " %s::text[], %s::bytea[], %s::bigint[], %s::text[])"
            " AS new (key, seq, version, passages, content_hash, title, metadata, expires_ns, text)"
            " WHERE document.key = new.key",
            (
                now_ns,
                [key for key, _ in placed],
                [item.position.seq for _, item in placed],
                [item.version for _, item in placed],
                [len(item.write.spans) for _, item in placed],
                [item.write.content_hash for _, item in placed],
                [item.write.title for _, item in placed],
                [item.write.metadata for _, item in placed],
                [item.write.expires_ns for _, item in placed],
                [item.write.text for _, item in placed],
            ),
        )

    def _write_passages(
        self, placed: Sequence[Placed], keys: Sequence[int]
    ) -> Iterator[NDArray[np.int64]]:
        """The ids of each document's."""
        ids = self._ids("passage_id", sum(len(item.write.spans) for item in placed))
        following = iter(ids)
        with self._connection.cursor().copy(
            "COPY passage (id, document_key, position, span_start, span_end)"
            " FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(["int8", "int8", "int4", "int4", "int4"])
            for key, item in zip(keys, placed, strict=True):
                for at, (start, end) in enumerate(item.write.spans):
                    copy.write_row((next(following), key, at, start, end))
        following = iter(ids)
        with self._connection.cursor().copy(
            "COPY vector (passage_id, data) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(["int8", "bytea"])
            for item in placed:
                for vector in item.write.vectors.astype("<f2", copy=False):
                    copy.write_row((next(following), vector.tobytes()))
        counts = np.cumsum([len(item.write.spans) for item in placed])
        return iter(np.split(np.array(ids, np.int64), counts[:-1]))


def shards_of_expired(transaction: Transaction, now_ns: int, limit: int) -> list[ShardKey]:
    """Where some of the documents are whose time is over."""
    rows: Any = transaction.connection.execute(
        "SELECT DISTINCT generation_key, shard FROM (SELECT generation_key, shard"
        f" FROM document WHERE {_EXPIRED}) AS expired",
        (now_ns, limit),
    )
    return [(key, number) for key, number in rows]


def shards_of_tombstones(transaction: Transaction, before_ns: int, limit: int) -> list[ShardKey]:
    """Where some of the tombstones are that were left before."""
    rows: Any = transaction.connection.execute(
        "SELECT DISTINCT generation_key, shard FROM (SELECT generation_key, shard"
        f" FROM document WHERE {_OLD_TOMBSTONES}) AS old",
        (before_ns, limit),
    )
    return [(key, number) for key, number in rows]
