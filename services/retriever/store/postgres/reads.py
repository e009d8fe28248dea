"""Reading documents, passages and the log, in SQL."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from psycopg import capabilities

from services.retriever.store.decoding import (
    DOCUMENT_COLUMNS,
    changes_of,
    page_of,
    stored_document,
    texts_of,
    whole_vector,
)
from services.retriever.store.postgres import positions
from services.retriever.store.postgres.connection import Connection
from services.retriever.store.records import (
    Change,
    DocumentPage,
    DocumentState,
    EmbeddedDocument,
    Generation,
    KeyedDocument,
    Passage,
    StoredDocument,
    StoredPassage,
    TextChange,
)
from services.retriever.store.tombstones import DocumentKeys, check_purged
from sirdar.errors import NotFound

_LIVE = " NOT deleted AND (expires_ns IS NULL OR expires_ns > %s)"
_DOCUMENT = f"SELECT {DOCUMENT_COLUMNS} FROM document WHERE generation_key = %s AND {_LIVE}"
# Slicing in SQL: the text of a long document is not sent for each of its passages.
_PASSAGE_TEXT = (
    "SELECT p.id, d.id, p.position, p.span_start, p.span_end,"
    " substr(d.text, p.span_start + 1, p.span_end - p.span_start), d.title, d.metadata, d.version,"
    " d.expires_ns"
)
_PASSAGE_BARE = (
    "SELECT p.id, d.id, p.position, p.span_start, p.span_end, '', '', ''::bytea, d.version,"
    " d.expires_ns"
)
_PASSAGE_FROM = (
    " FROM passage p JOIN document d ON d.key = p.document_key"
    " WHERE p.id = ANY(%s) AND (d.expires_ns IS NULL OR d.expires_ns > %s)"
)
# As the statement sees it that reads the log.
_PURGED = "coalesce((SELECT purged_seq FROM shard WHERE generation_key = %s AND shard = %s), 0)"
# A part of a log is read by its index. For all of it the planner would rather sort it first, to
# its end, each time that someone reads the next few changes.
_LOG_DOCUMENTS = 500
_STREAM_ROWS = 200


def document(
    connection: Connection, generation: Generation, document_id: str, now_ns: int
) -> StoredDocument:
    row = connection.execute(
        f"{_DOCUMENT} AND id = %s", (generation.key, now_ns, document_id), binary=True
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no document {document_id!r}", reason="DOCUMENT_NOT_FOUND")
    return stored_document(generation, row)


def documents(
    connection: Connection,
    generation: Generation,
    after: str,
    limit: int,
    max_bytes: int,
    now_ns: int,
) -> DocumentPage:
    rows = _stream(
        connection,
        f"{_DOCUMENT} AND id > %s ORDER BY id LIMIT %s",
        (generation.key, now_ns, after, limit + 1),
        # A document is up to megabytes, and a page ends early.
        size=1,
    )
    return page_of(generation, rows, limit, max_bytes)


def embedded_document(
    connection: Connection, generation: Generation, document_id: str, now_ns: int
) -> EmbeddedDocument:
    # One snapshot for both: between them the document may be written again.
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found = document(connection, generation, document_id, now_ns)
        rows = _rows(
            connection,
            "SELECT p.id, p.span_start, p.span_end, v.data FROM document d"
            " JOIN passage p ON p.document_key = d.key"
            " LEFT JOIN vector v ON v.passage_id = p.id"
            " WHERE d.generation_key = %s AND d.id = %s ORDER BY p.position",
            (generation.key, document_id),
        )
    passages = [
        StoredPassage(start, end, whole_vector(data, passage_id, generation))
        for passage_id, start, end, data in rows
    ]
    return EmbeddedDocument(found, tuple(passages))


def states(
    connection: Connection, generation: Generation, ids: Sequence[str], now_ns: int
) -> list[DocumentState]:
    rows = _rows(
        connection,
        f"SELECT id, version, content_hash FROM document WHERE generation_key = %s AND {_LIVE}"
        " AND id = ANY(%s)",
        (generation.key, now_ns, list(ids)),
    )
    return [DocumentState(*row) for row in rows]


def passages(
    connection: Connection, passage_ids: Sequence[int], with_text: bool, now_ns: int
) -> dict[int, Passage]:
    select = _PASSAGE_TEXT if with_text else _PASSAGE_BARE
    rows = _rows(connection, select + _PASSAGE_FROM, (list(passage_ids), now_ns))
    return {row[0]: Passage._make(row[1:]) for row in rows}


def passages_of(
    connection: Connection, generation: Generation, passage_ids: Sequence[int], now_ns: int
) -> dict[int, Passage]:
    rows = _rows(
        connection,
        f"{_PASSAGE_TEXT}{_PASSAGE_FROM} AND d.generation_key = %s",
        (list(passage_ids), now_ns, generation.key),
    )
    return {row[0]: Passage._make(row[1:]) for row in rows}


def vectors(
    connection: Connection, generation: Generation, passage_ids: Sequence[int]
) -> dict[int, bytes]:
    rows = _rows(
        connection,
        "SELECT passage_id, data FROM vector WHERE passage_id = ANY(%s)",
        (list(passage_ids),),
    )
    return {passage_id: whole_vector(data, passage_id, generation) for passage_id, data in rows}


def first_expiry(connection: Connection) -> int | None:
    """When the first of all documents is over."""
    row: Any = connection.execute(
        "SELECT min(expires_ns) FROM document WHERE expires_ns IS NOT NULL"
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def expired_keys(connection: Connection, generation: Generation, now_ns: int) -> list[int]:
    rows = _rows(
        connection,
        "SELECT key FROM document WHERE expires_ns <= %s AND generation_key = %s",
        (now_ns, generation.key),
    )
    return [key for (key,) in rows]


def changes(
    connection: Connection, generation: Generation, shard: int, after_seq: int, purged_seq: int
) -> Iterator[Change]:
    """The next of them; none: there are no more."""
    rows = _stream(
        connection,
        f"SELECT d.seq, d.key, d.metadata, p.id, v.data, {_PURGED} FROM (SELECT seq, key, metadata"
        " FROM document WHERE generation_key = %s AND shard = %s AND seq > %s"
        f" ORDER BY seq LIMIT {_LOG_DOCUMENTS}) d"
        " LEFT JOIN passage p ON p.document_key = d.key"
        " LEFT JOIN vector v ON v.passage_id = p.id ORDER BY d.seq, p.position",
        (generation.key, shard, generation.key, shard, after_seq),
    )
    known_seq = max(after_seq, purged_seq)
    return changes_of(
        generation, shard, _none_purged(connection, generation, shard, rows, known_seq)
    )


def texts(
    connection: Connection, generation: Generation, shard: int, after_seq: int, purged_seq: int
) -> Iterator[TextChange]:
    """As `changes`."""
    # A long document's text comes once, not with each of its passages.
    rows = _stream(
        connection,
        "SELECT d.seq, d.key, CASE WHEN p.position > 0 THEN '' ELSE d.title END,"
        " CASE WHEN p.position > 0 THEN '' ELSE d.text END,"
        f" p.id, p.span_start, p.span_end, {_PURGED} FROM (SELECT seq, key, title, text"
        " FROM document WHERE generation_key = %s AND shard = %s AND seq > %s"
        f" ORDER BY seq LIMIT {_LOG_DOCUMENTS}) d"
        " LEFT JOIN passage p ON p.document_key = d.key ORDER BY d.seq, p.position",
        (generation.key, shard, generation.key, shard, after_seq),
        size=1,
    )
    known_seq = max(after_seq, purged_seq)
    return texts_of(_none_purged(connection, generation, shard, rows, known_seq))


def document_keys(connection: Connection, generation: Generation, shard: int) -> DocumentKeys:
    # Before the keys: none of them may be of a time before it.
    purged_seq = positions.purged(connection, generation.key, shard)
    rows = _stream(
        connection,
        "SELECT key FROM document WHERE generation_key = %s AND shard = %s",
        (generation.key, shard),
    )
    keys = np.fromiter((key for (key,) in rows), np.int64)
    keys.sort()
    return DocumentKeys(keys, purged_seq)


def metadata(
    connection: Connection, generation: Generation, shard: int
) -> Iterator[tuple[int, bytes | None]]:
    rows = _stream(
        connection,
        "SELECT key, deleted, metadata FROM document WHERE generation_key = %s AND shard = %s"
        " ORDER BY key",
        (generation.key, shard),
    )
    for key, deleted, data in rows:
        yield key, None if deleted else data


def keyed_documents(
    connection: Connection, generation: Generation, keys: Sequence[int], now_ns: int
) -> list[KeyedDocument]:
    rows = _rows(
        connection,
        f"SELECT key, id, version, metadata FROM document WHERE generation_key = %s AND {_LIVE}"
        " AND key = ANY(%s)",
        (generation.key, now_ns, list(keys)),
    )
    return [KeyedDocument(*row) for row in rows]


def _none_purged(
    connection: Connection, generation: Generation, shard: int, rows: Generator[Any], known_seq: int
) -> Iterator[Any]:
    """The rows; their last column tells up to where tombstones are gone. Raises
    TombstonesPurged."""
    found = False
    # Closed before the error is on its way: until then the connection is of no use.
    with closing(rows):
        for row in rows:
            found = True
            check_purged(row[-1], known_seq)
            yield row
    if not found:
        check_purged(positions.purged(connection, generation.key, shard), known_seq)


def _rows(connection: Connection, query: str, parameters: Sequence[object]) -> list[Any]:
    return connection.execute(query, parameters, binary=True).fetchall()


def _stream(
    connection: Connection,
    query: str,
    parameters: Sequence[object],
    size: int = _STREAM_ROWS,
) -> Generator[Any]:
    """Rows as they come; the rest is given up where the reader stops."""
    chunk = size if capabilities.has_stream_chunked() else 1
    with connection.cursor() as cursor:
        yield from cursor.stream(query, parameters, binary=True, size=chunk)
