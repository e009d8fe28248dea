"""Reading vectors back, in SQL."""

import json
import sqlite3
from collections.abc import Sequence

from services.retriever.store.decoding import whole_vector
from services.retriever.store.records import EmbeddedDocument, Generation, StoredPassage
from services.retriever.store.sqlite import reads


def of_passages(
    connection: sqlite3.Connection, generation: Generation, passage_ids: Sequence[int]
) -> dict[int, bytes]:
    rows = connection.execute(
        "SELECT passage_id, data FROM vector WHERE passage_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(passage_ids)),),
    )
    return {passage_id: whole_vector(data, passage_id, generation) for passage_id, data in rows}


def of_document(
    connection: sqlite3.Connection, generation: Generation, document_id: str, now_ns: int
) -> EmbeddedDocument:
    # One snapshot for both: between them the document may be written again.
    connection.execute("BEGIN")
    try:
        document = reads.document(connection, generation, document_id, now_ns)
        rows = connection.execute(
            "SELECT p.id, p.span_start, p.span_end, v.data FROM document d"
            " JOIN passage p ON p.document_key = d.key"
            " LEFT JOIN vector v ON v.passage_id = p.id"
            " WHERE d.generation_key = ? AND d.id = ? ORDER BY p.position",
            (generation.key, document_id),
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    passages = [
        StoredPassage(start, end, whole_vector(data, passage_id, generation))
        for passage_id, start, end, data in rows
    ]
    return EmbeddedDocument(document, tuple(passages))
