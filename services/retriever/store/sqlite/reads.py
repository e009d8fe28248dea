"""Reading documents, passages and the log, in SQL."""

import json
import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from services.retriever.store.decoding import (
    DOCUMENT_COLUMNS,
    changes_of,
    page_of,
    stored_document,
    texts_of,
)
from services.retriever.store.records import (
    Change,
    DocumentPage,
    DocumentState,
    Generation,
    KeyedDocument,
    Passage,
    StoredDocument,
    TextChange,
)
from services.retriever.store.sqlite import positions
from services.retriever.store.tombstones import DocumentKeys, check_purged
from sirdar.errors import NotFound

_DOCUMENT = (
    f"SELECT {DOCUMENT_COLUMNS} FROM document WHERE generation_key = ? AND NOT deleted"
    " AND (expires_ns IS NULL OR expires_ns > ?)"
)
# Slicing in SQL: the text of a long document does not become a Python string for each of
# its passages.
_PASSAGE_TEXT = (
    "SELECT p.id, d.id, p.position, p.span_start, p.span_end,"
    " substr(d.text, p.span_start + 1, p.span_end - p.span_start), d.title, d.metadata, d.version,"
    " d.expires_ns"
)
_PASSAGE_BARE = (
    "SELECT p.id, d.id, p.position, p.span_start, p.span_end, '', '', x'', d.version, d.expires_ns"
)
_PASSAGE_FROM = (
    " FROM passage p JOIN document d ON d.key = p.document_key"
    " WHERE p.id IN (SELECT value FROM json_each(?))"
    " AND (d.expires_ns IS NULL OR d.expires_ns > ?)"
)


def document(
    connection: sqlite3.Connection, generation: Generation, document_id: str, now_ns: int
) -> StoredDocument:
    row = connection.execute(
        f"{_DOCUMENT} AND id = ?", (generation.key, now_ns, document_id)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no document {document_id!r}", reason="DOCUMENT_NOT_FOUND")
    return stored_document(generation, row)


def documents(
    connection: sqlite3.Connection,
    generation: Generation,
    after: str,
    limit: int,
    max_bytes: int,
    now_ns: int,
) -> DocumentPage:
    rows = connection.execute(
        f"{_DOCUMENT} AND id > ? ORDER BY id LIMIT ?", (generation.key, now_ns, after, limit + 1)
    )
    return page_of(generation, rows, limit, max_bytes)


def states(
    connection: sqlite3.Connection, generation: Generation, ids: Sequence[str], now_ns: int
) -> list[DocumentState]:
    rows = connection.execute(
        "SELECT id, version, content_hash FROM document WHERE generation_key = ?"
        " AND NOT deleted AND (expires_ns IS NULL OR expires_ns > ?)"
        " AND id IN (SELECT value FROM json_each(?))",
        (generation.key, now_ns, json.dumps(list(ids))),
    )
    return [DocumentState(*row) for row in rows]


def passages(
    connection: sqlite3.Connection, passage_ids: Sequence[int], with_text: bool, now_ns: int
) -> dict[int, Passage]:
    select = _PASSAGE_TEXT if with_text else _PASSAGE_BARE
    rows = connection.execute(select + _PASSAGE_FROM, (json.dumps(passage_ids), now_ns))
    return {row[0]: Passage._make(row[1:]) for row in rows}


def passages_of(
    connection: sqlite3.Connection,
    generation: Generation,
    passage_ids: Sequence[int],
    now_ns: int,
) -> dict[int, Passage]:
    rows = connection.execute(
        f"{_PASSAGE_TEXT}{_PASSAGE_FROM} AND d.generation_key = ?",
        (json.dumps(passage_ids), now_ns, generation.key),
    )
    return {row[0]: Passage._make(row[1:]) for row in rows}


def has_expired(connection: sqlite3.Connection, now_ns: int) -> bool:
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM document WHERE expires_ns <= ?)", (now_ns,)
    ).fetchone()
    return bool(found)


def expired_keys(connection: sqlite3.Connection, generation: Generation, now_ns: int) -> list[int]:
    rows = connection.execute(
        "SELECT key FROM document WHERE expires_ns <= ? AND generation_key = ?",
        (now_ns, generation.key),
    )
    return [key for (key,) in rows]


def changes(
    connection: sqlite3.Connection,
    generation: Generation,
    shard: int,
    after_seq: int,
    purged_seq: int,
) -> Iterator[Change]:
    rows = connection.execute(
        "SELECT d.seq, d.key, d.metadata, p.id, v.data FROM document d"
        " LEFT JOIN passage p ON p.document_key = d.key"
        " LEFT JOIN vector v ON v.passage_id = p.id"
        " WHERE d.generation_key = ? AND d.shard = ? AND d.seq > ?"
        " ORDER BY d.seq, p.position",
        (generation.key, shard, after_seq),
    )
    # Of the same snapshot where there are rows, and of a later one where there are none.
    purged = positions.purged(connection, generation.key, shard)
    check_purged(purged, max(after_seq, purged_seq))
    return changes_of(generation, shard, rows)


def document_keys(
    connection: sqlite3.Connection, generation: Generation, shard: int
) -> DocumentKeys:
    # Before the keys: none of them may be of a time before it.
    purged_seq = positions.purged(connection, generation.key, shard)
    rows = connection.execute(
        "SELECT key FROM document WHERE generation_key = ? AND shard = ?", (generation.key, shard)
    )
    keys = np.fromiter((key for (key,) in rows), np.int64)
    keys.sort()
    return DocumentKeys(keys, purged_seq)


def metadata(
    connection: sqlite3.Connection, generation: Generation, shard: int
) -> Iterator[tuple[int, bytes | None]]:
    rows = connection.execute(
        "SELECT key, deleted, metadata FROM document WHERE generation_key = ? AND shard = ?"
        " ORDER BY key",
        (generation.key, shard),
    )
    for key, deleted, data in rows:
        yield key, None if deleted else data


def keyed_documents(
    connection: sqlite3.Connection, generation: Generation, keys: Sequence[int], now_ns: int
) -> list[KeyedDocument]:
    rows = connection.execute(
        "SELECT key, id, version, metadata FROM document WHERE generation_key = ? AND NOT deleted"
        " AND (expires_ns IS NULL OR expires_ns > ?)"
        " AND key IN (SELECT value FROM json_each(?))",
        (generation.key, now_ns, json.dumps(list(keys))),
    )
    return [KeyedDocument(*row) for row in rows]


def texts(
    connection: sqlite3.Connection,
    generation: Generation,
    shard: int,
    after_seq: int,
    purged_seq: int,
) -> Iterator[TextChange]:
    # A long document's text comes once, not with each of its passages.
    rows = connection.execute(
        "SELECT d.seq, d.key, CASE WHEN p.position > 0 THEN '' ELSE d.title END,"
        " CASE WHEN p.position > 0 THEN '' ELSE d.text END,"
        " p.id, p.span_start, p.span_end FROM document d"
        " LEFT JOIN passage p ON p.document_key = d.key"
        " WHERE d.generation_key = ? AND d.shard = ? AND d.seq > ?"
        " ORDER BY d.seq, p.position",
        (generation.key, shard, after_seq),
    )
    purged = positions.purged(connection, generation.key, shard)
    check_purged(purged, max(after_seq, purged_seq))
    return texts_of(rows)
