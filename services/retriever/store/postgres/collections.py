"""Collections and their generations, in SQL."""

import time
from typing import Any

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
from services.retriever.store.group_commit import ShardKey, Written
from services.retriever.store.postgres.connection import Connection
from services.retriever.store.postgres.transaction import Transaction
from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Generation,
)

_PURGE_DOCUMENTS = 200
# One of all retrievers purges at a time.
_PURGE_LOCK = 0x50555247 << 32


def create(transaction: Transaction, definition: CollectionDefinition) -> Written[Collection]:
    """The collection with its first generation and empty shards."""
    connection = transaction.connection
    connection.execute(
        "INSERT INTO namespace (name) VALUES (%s) ON CONFLICT DO NOTHING", (definition.namespace,)
    )
    now = time.time_ns()
    row = connection.execute(
        "INSERT INTO collection (namespace_key, name, description, labels, rerank, lexical,"
        " schema, generation_number, created_ns, updated_ns)"
        " SELECT key, %s, %s, %s, %s, %s, %s, 1, %s, %s FROM namespace WHERE name = %s"
        " ON CONFLICT (namespace_key, name) WHERE NOT dropped DO NOTHING RETURNING key",
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
    ).fetchone()
    if row is None:
        raise already_there(definition.namespace, definition.name)
    space = definition.space
    connection.execute(
        "WITH made AS (INSERT INTO generation (collection_key, number, model, revision,"
        " dimensions, fingerprint, shards, index_kind, similarity)"
        " VALUES (%s, 1, %s, %s, %s, %s, %s, %s, %s) RETURNING key)"
        " INSERT INTO shard (generation_key, shard)"
        " SELECT key, number FROM made, generate_series(0, %s - 1) AS number",
        (
            row[0],
            space.model,
            space.revision,
            space.dimensions,
            space.fingerprint,
            definition.shards,
            definition.index_kind,
            definition.similarity.value,
            definition.shards,
        ),
    )
    return Written(get(connection, definition.namespace, definition.name))


def update(
    transaction: Transaction, namespace: str, name: str, change: CollectionUpdate
) -> Written[Collection]:
    """Raises InvalidArgument where the schema would lose a field or change its type."""
    connection = transaction.connection
    key = _locked_key(connection, namespace, name)
    schema = None
    if change.schema is not None:
        check_grown(get(connection, namespace, name).schema, change.schema)
        schema = schema_text(change.schema)
    # Another than before, whichever retriever's clock it was.
    connection.execute(
        "UPDATE collection SET description = coalesce(%s, description),"
        " labels = coalesce(%s, labels), rerank = coalesce(%s, rerank),"
        " schema = coalesce(%s, schema), updated_ns = greatest(%s, updated_ns + 1)"
        " WHERE key = %s",
        (
            change.description,
            None if change.labels is None else labels_text(change.labels),
            change.rerank,
            schema,
            time.time_ns(),
            key,
        ),
    )
    return Written(get(connection, namespace, name))


def shards(transaction: Transaction, namespace: str, name: str) -> list[ShardKey]:
    """Of a collection; none: it is not there."""
    rows: Any = transaction.connection.execute(
        "SELECT s.generation_key, s.shard FROM collection c"
        " JOIN namespace n ON n.key = c.namespace_key"
        " JOIN generation g ON g.collection_key = c.key"
        " JOIN shard s ON s.generation_key = g.key"
        " WHERE NOT c.dropped AND n.name = %s AND c.name = %s",
        (namespace, name),
    )
    return [(key, number) for key, number in rows]


def drop(transaction: Transaction, namespace: str, name: str) -> Written[Generation]:
    """Takes the collection out of sight, with its shards locked: who writes to it has been there
    before, or finds it gone. `purge` removes its rows."""
    connection = transaction.connection
    key = _locked_key(connection, namespace, name)
    collection = get(connection, namespace, name)
    connection.execute("UPDATE collection SET dropped = TRUE WHERE key = %s", (key,))
    return Written(collection.generation)


def purge(transaction: Transaction) -> Written[bool]:
    """Removes some rows of dropped collections; answers whether there are more.

    In small steps, because writes to other collections share the transaction.
    """
    connection = transaction.connection
    (free,) = connection.execute(
        "SELECT pg_try_advisory_xact_lock(%s + 'store'::regclass::oid::bigint)", (_PURGE_LOCK,)
    ).fetchone() or (False,)
    if not free:
        return Written(False)
    removed = connection.execute(
        "WITH gone AS (SELECT d.key FROM document d"
        " JOIN generation g ON g.key = d.generation_key"
        " JOIN collection c ON c.key = g.collection_key WHERE c.dropped LIMIT %s),"
        " passages AS (DELETE FROM passage USING gone WHERE document_key = gone.key"
        " RETURNING passage.id),"
        " vectors AS (DELETE FROM vector USING passages WHERE passage_id = passages.id)"
        " DELETE FROM document USING gone WHERE document.key = gone.key",
        (_PURGE_DOCUMENTS,),
    ).rowcount
    if removed == 0:
        connection.execute(
            "DELETE FROM collection c WHERE dropped AND NOT EXISTS (SELECT FROM generation g"
            " JOIN document d ON d.generation_key = g.key WHERE g.collection_key = c.key)"
        )
    return Written(removed > 0)


def get(connection: Connection, namespace: str, name: str) -> Collection:
    row = connection.execute(
        f"{SELECT} AND n.name = %s AND c.name = %s", (namespace, name), binary=True
    ).fetchone()
    if row is None:
        raise not_found(namespace, name)
    return collection_of(row)


def page(connection: Connection, namespace: str, after: str, limit: int) -> list[Collection]:
    rows = connection.execute(
        f"{SELECT} AND n.name = %s AND c.name > %s ORDER BY c.name LIMIT %s",
        (namespace, after, limit),
        binary=True,
    )
    return [collection_of(row) for row in rows]


def every(connection: Connection) -> list[Collection]:
    rows = connection.execute(f"{SELECT} ORDER BY n.name, c.name", binary=True)
    return [collection_of(row) for row in rows]


def _locked_key(connection: Connection, namespace: str, name: str) -> int:
    row: Any = connection.execute(
        "SELECT c.key FROM collection c JOIN namespace n ON n.key = c.namespace_key"
        " WHERE NOT c.dropped AND n.name = %s AND c.name = %s FOR UPDATE OF c",
        (namespace, name),
    ).fetchone()
    if row is None:
        raise not_found(namespace, name)
    return int(row[0])
