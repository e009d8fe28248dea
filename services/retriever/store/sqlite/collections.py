"""Collections and their generations, in SQL."""

import sqlite3
import time

from services.retriever.store.definitions import (
    SELECT,
    already_there,
    check_grown,
    collection_of,
    labels_text,
    lexical_text,
    not_found,
    schema_text,
)
from services.retriever.store.group_commit import Written
from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Generation,
)

_PURGE_DOCUMENTS = 200


def create(connection: sqlite3.Connection, definition: CollectionDefinition) -> Written[Collection]:
    """The collection with its first generation and empty shards."""
    now = time.time_ns()
    connection.execute("INSERT OR IGNORE INTO namespace (name) VALUES (?)", (definition.namespace,))
    taken = connection.execute(
        f"SELECT EXISTS ({SELECT} AND n.name = ? AND c.name = ?)",
        (definition.namespace, definition.name),
    ).fetchone()[0]
    if taken:
        raise already_there(definition.namespace, definition.name)
    collection_key = connection.execute(
        "INSERT INTO collection (namespace_key, name, description, labels, rerank, lexical,"
        " schema, generation_number, created_ns, updated_ns)"
        " SELECT key, ?, ?, ?, ?, ?, ?, 1, ?, ? FROM namespace WHERE name = ?",
        (
            definition.name,
            definition.description,
            labels_text(definition.labels),
            definition.rerank,
            lexical_text(definition.lexical),
            schema_text(definition.schema),
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
            (labels_text(change.labels), key),
        )
    if change.rerank is not None:
        connection.execute("UPDATE collection SET rerank = ? WHERE key = ?", (change.rerank, key))
    if change.schema is not None:
        check_grown(get(connection, namespace, name).schema, change.schema)
        connection.execute(
            "UPDATE collection SET schema = ? WHERE key = ?", (schema_text(change.schema), key)
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
        f"{SELECT} AND n.name = ? AND c.name = ?", (namespace, name)
    ).fetchone()
    if row is None:
        raise not_found(namespace, name)
    return collection_of(row)


def page(
    connection: sqlite3.Connection, namespace: str, after: str, limit: int
) -> list[Collection]:
    rows = connection.execute(
        f"{SELECT} AND n.name = ? AND c.name > ? ORDER BY c.name LIMIT ?",
        (namespace, after, limit),
    )
    return [collection_of(row) for row in rows]


def every(connection: sqlite3.Connection) -> list[Collection]:
    return [collection_of(row) for row in connection.execute(f"{SELECT} ORDER BY n.name, c.name")]


def _key(connection: sqlite3.Connection, namespace: str, name: str) -> int:
    row = connection.execute(
        "SELECT c.key FROM collection c JOIN namespace n ON n.key = c.namespace_key"
        " WHERE NOT c.dropped AND n.name = ? AND c.name = ?",
        (namespace, name),
    ).fetchone()
    if row is None:
        raise not_found(namespace, name)
    return int(row[0])
