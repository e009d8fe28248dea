"""What rows of the database mean, whatever database they are in."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from services.retriever.store.documents import NO_IDS
from services.retriever.store.records import (
    Change,
    DocumentPage,
    Generation,
    Position,
    Receipt,
    StoredDocument,
    TextChange,
)
from sirdar.errors import DataLoss

_Row = Sequence[Any]
DOCUMENT_COLUMNS = (
    "id, title, text, metadata, shard, seq, version, passages, unchanged, written_ns, expires_ns"
)


def stored_document(generation: Generation, row: _Row) -> StoredDocument:
    """Of a row of `DOCUMENT_COLUMNS`."""
    return StoredDocument(
        id=row[0],
        title=row[1],
        text=row[2],
        metadata=row[3],
        receipt=Receipt(
            position=Position(generation.key, row[4], row[5]),
            version=row[6],
            passages=row[7],
            unchanged=bool(row[8]),
            written_ns=row[9],
        ),
        expires_ns=row[10],
    )


def page_of(
    generation: Generation, rows: Iterable[_Row], limit: int, max_bytes: int
) -> DocumentPage:
    """Of up to `limit` + 1 rows of `DOCUMENT_COLUMNS`."""
    page: list[StoredDocument] = []
    size = 0
    for row in rows:
        stored = stored_document(generation, row)
        # UTF-8 takes up to four bytes a code point.
        size += 4 * (len(stored.text) + len(stored.title)) + len(stored.metadata) + 1024
        if len(page) == limit or (page and size > max_bytes):
            return DocumentPage(tuple(page), more=True)
        page.append(stored)
    return DocumentPage(tuple(page), more=False)


def changes_of(generation: Generation, shard: int, rows: Iterable[_Row]) -> Iterator[Change]:
    """Of rows (seq, key, metadata, passage id, vector), a document's together; ids and vectors
    are null where it has no passages."""
    dimensions = generation.space.dimensions
    for (seq, key, metadata), group in groupby(rows, key=lambda row: row[:3]):
        found = [(row[3], row[4]) for row in group if row[3] is not None]
        position = Position(generation.key, shard, seq)
        if not found:
            yield Change(position, key, NO_IDS, np.empty((0, dimensions), np.float16))
            continue
        ids, data = zip(*found, strict=True)
        if any(item is None or len(item) != 2 * dimensions for item in data):
            raise DataLoss(
                f"vectors of document row {key} are missing or cut short; "
                "restore the database from a backup"
            )
        vectors = np.frombuffer(b"".join(data), "<f2").reshape(len(ids), dimensions)
        yield Change(position, key, np.array(ids, np.int64), vectors, metadata=metadata)


def texts_of(rows: Iterable[_Row]) -> Iterator[TextChange]:
    """Of rows (seq, key, title, text, passage id, start, end), a document's together, its title
    and text in the first of them."""
    for (seq, key), group in groupby(rows, key=lambda row: row[:2]):
        found = list(group)
        title, text = found[0][2:4]
        here = [row[4:] for row in found if row[4] is not None]
        ids = tuple(row[0] for row in here)
        spans = tuple((row[1], row[2]) for row in here)
        yield TextChange(seq, key, ids, title, text, spans)


def whole_vector(data: bytes | None, passage_id: int, generation: Generation) -> bytes:
    """Raises DataLoss."""
    if data is None or len(data) != 2 * generation.space.dimensions:
        raise DataLoss(
            f"the vector of passage {passage_id} is missing or cut short; "
            "restore the database from a backup"
        )
    return data
