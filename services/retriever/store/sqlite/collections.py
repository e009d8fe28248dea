"""Collections and their generations, in SQL."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    FieldSchema,
    FieldType,
    Generation,
    LexicalSettings,
    Similarity,
    Space,
)
from services.retriever.store.sqlite.commit import Written
from sirdar.errors import AlreadyExists, InvalidArgument, NotFound

_SELECT = """
    SELECT n.name, c.name, c.description, c.labels, c.created_ns, c.updated_ns,
        g.key, g.number, g.model, g.revision, g.dimensions, g.fingerprint, g.shards,
        g.index_kind, g.similarity,
        (SELECT sum(documents) FROM shard WHERE generation_key = g.key),
        (SELECT sum(passages) FROM shard WHERE generation_key = g.key),
        c.rerank, c.lexical, c.schema
    FROM collection c
    JOIN namespace n ON n.key = c.namespace_key
    JOIN generation g ON g.collection_key = c.key AND g.number = c.generation_number
    WHERE NOT c.dropped
"""
_PURGE_DOCUMENTS = 200


def create(connection: sqlite3.Connection, definition: CollectionDefinition) -> Written[Collection]:
    """The collection with its first generation and empty shards."""
    now = time.time_ns()
    connection.execute("INSERT OR IGNORE INTO namespace (name) VALUES (?)", (definition.namespace,))
    taken = connection.execute(
        f"SELECT EXISTS ({_SELECT} AND n.name = ? AND c.name = ?)",
        (definition.namespace, definition.name),
    ).fetchone()[0]
    if taken:
        raise AlreadyExists(
            f"there is a collection {definition.namespace}/{definition.name} already; "
            "delete it first or choose another name",
            reason="COLLECTION_EXISTS",
        )
    collection_key = connection.execute(
        "INSERT INTO collection (namespace_key, name, description, labels, rerank, lexical,"
        " schema, generation_number, created_ns, updated_ns)"
        " SELECT key, ?, ?, ?, ?, ?, ?, 1, ?, ? FROM namespace WHERE name = ?",
        (
            definition.name,
            definition.description,
            json.dumps(dict(definition.labels), sort_keys=True),
            definition.rerank,
            json.dumps(asdict(definition.lexical), sort_keys=True),
            _schema_text(definition.schema),
            now,
            now,
            definition.namespace,
        ),
    ).lastrowid
    space = definition.space
    generation_key = connection.execute(
        "INSERT INTO generation (collection_key, number, model, revision, dimensions, fingerprint,"
        " shards, index_kind, similarity) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
        (
            collection_key,
            space.model,
            space.revision,
            space.dimensions,
            space.fingerprint,
            definition.shards,
            definition.index_kind,
            definition.similarity.value,
        ),
    ).lastrowid
    connection.executemany(
        "INSERT INTO shard (generation_key, shard) VALUES (?, ?)",
        [(generation_key, shard) for shard in range(definition.shards)],
    )
    return Written(get(connection, definition.namespace, definition.name))


def update(
    connection: sqlite3.Connection, namespace: str, name: str, change: CollectionUpdate
) -> Written[Collection]:
    """Raises InvalidArgument where the schema would lose a field or change its type."""
    key = _key(connection, namespace, name)
    if change.description is not None:
        connection.execute(
            "UPDATE collection SET description = ? WHERE key = ?", (change.description, key)
        )
    if change.labels is not None:
        connection.execute(
            "UPDATE collection SET labels = ? WHERE key = ?",
            (json.dumps(dict(change.labels), sort_keys=True), key),
        )
    if change.rerank is not None:
        connection.execute("UPDATE collection SET rerank = ? WHERE key = ?", (change.rerank, key))
    if change.schema is not None:
        _check_grown(get(connection, namespace, name).schema, change.schema)
        connection.execute(
            "UPDATE collection SET schema = ? WHERE key = ?", (_schema_text(change.schema), key)
        )
    connection.execute("UPDATE collection SET updated_ns = ? WHERE key = ?", (time.time_ns(), key))
    return Written(get(connection, namespace, name))


def drop(connection: sqlite3.Connection, namespace: str, name: str) -> Written[Generation]:
    """Takes the collection out of sight; `purge` removes its rows."""
    collection = get(connection, namespace, name)
    key = _key(connection, namespace, name)
    connection.execute("UPDATE collection SET dropped = 1 WHERE key = ?", (key,))
    return Written(collection.generation)


def purge(connection: sqlite3.Connection) -> Written[bool]:
    """Removes some rows of dropped collections; answers whether there are more.

    In small steps, because writes to other collections share the transaction.
    """
    dropped = "SELECT key FROM collection WHERE dropped"
    removed = connection.execute(
        "DELETE FROM document WHERE key IN (SELECT d.key FROM document d"
        " JOIN generation g ON g.key = d.generation_key"
        f" WHERE g.collection_key IN ({dropped}) LIMIT {_PURGE_DOCUMENTS})"
    ).rowcount
    if removed == 0:
        connection.execute(f"DELETE FROM collection WHERE key IN ({dropped})")
    return Written(removed > 0)


def get(connection: sqlite3.Connection, namespace: str, name: str) -> Collection:
    row = connection.execute(
        f"{_SELECT} AND n.name = ? AND c.name = ?", (namespace, name)
    ).fetchone()
    if row is None:
        raise _not_found(namespace, name)
    return _collection(row)


def page(
    connection: sqlite3.Connection, namespace: str, after: str, limit: int
) -> list[Collection]:
    rows = connection.execute(
        f"{_SELECT} AND n.name = ? AND c.name > ? ORDER BY c.name LIMIT ?",
        (namespace, after, limit),
    )
    return [_collection(row) for row in rows]


def every(connection: sqlite3.Connection) -> list[Collection]:
    return [_collection(row) for row in connection.execute(f"{_SELECT} ORDER BY n.name, c.name")]


def _key(connection: sqlite3.Connection, namespace: str, name: str) -> int:
    row = connection.execute(
        "SELECT c.key FROM collection c JOIN namespace n ON n.key = c.namespace_key"
        " WHERE NOT c.dropped AND n.name = ? AND c.name = ?",
        (namespace, name),
    ).fetchone()
    if row is None:
        raise _not_found(namespace, name)
    return int(row[0])


def _check_grown(old: Sequence[FieldSchema], new: Sequence[FieldSchema]) -> None:
    types = {field.name: field.type for field in new}
    for field in old:
        if types.get(field.name) is not field.type:
            raise InvalidArgument.field(
                "collection.schema",
                f"must keep the field {field.name!r} of type {field.type}; an update may only add "
                "fields, so give all of them, and the new values a field with a new name",
                reason="IMMUTABLE_FIELD",
            )


def _schema_text(fields: Sequence[FieldSchema]) -> str:
    return json.dumps([asdict(field) for field in fields])


def _not_found(namespace: str, name: str) -> NotFound:
    return NotFound(
        f"there is no collection {namespace}/{name}; create it first",
        reason="COLLECTION_NOT_FOUND",
    )


def _collection(row: tuple[Any, ...]) -> Collection:
    return Collection(
        namespace=row[0],
        name=row[1],
        description=row[2],
        labels=json.loads(row[3]),
        rerank=row[17],
        created_ns=row[4],
        updated_ns=row[5],
        generation=Generation(
            key=row[6],
            number=row[7],
            space=Space(row[8], row[9], row[10], row[11]),
            shards=row[12],
            index_kind=row[13],
            similarity=Similarity(row[14]),
        ),
        documents=row[15],
        passages=row[16],
        lexical=LexicalSettings(**json.loads(row[18])),
        schema=tuple(
            FieldSchema(item["name"], FieldType(item["type"])) for item in json.loads(row[19])
        ),
    )
