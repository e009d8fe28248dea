"""Sequences: where writes stand in the logs of their shards."""

import sqlite3
from itertools import groupby

from services.retriever.store.group_commit import Written
from services.retriever.store.records import Head


def open_anew(connection: sqlite3.Connection, opening: str) -> Written[None]:
    """Sequences are given under this name from now on."""
    connection.execute("UPDATE store SET opening = ?", (opening,))
    return Written(None)


def opening(connection: sqlite3.Connection) -> str:
    """The name under which sequences are given."""
    (found,) = connection.execute("SELECT opening FROM store").fetchone()
    return str(found)


def last(connection: sqlite3.Connection, generation_key: int) -> list[int]:
    """The last sequence of each shard."""
    rows = connection.execute(
        "SELECT seq FROM shard WHERE generation_key = ? ORDER BY shard", (generation_key,)
    )
    return [row[0] for row in rows]


def purged(connection: sqlite3.Connection, generation_key: int, shard: int) -> int:
    """The last sequence of the tombstones of a shard that are gone; 0: none is, or the shard is."""
    row = connection.execute(
        "SELECT purged_seq FROM shard WHERE generation_key = ? AND shard = ?",
        (generation_key, shard),
    ).fetchone()
    return int(row[0]) if row else 0


def heads(connection: sqlite3.Connection) -> list[Head]:
    """Of the collections that are there."""
    rows = connection.execute(
        "SELECT g.key, c.updated_ns, s.seq FROM collection c"
        " JOIN generation g ON g.collection_key = c.key AND g.number = c.generation_number"
        " JOIN shard s ON s.generation_key = g.key"
        " WHERE NOT c.dropped ORDER BY g.key, s.shard"
    )
    return [
        Head(key, updated_ns, tuple(row[2] for row in group))
        for (key, updated_ns), group in groupby(rows, key=lambda row: row[:2])
    ]
