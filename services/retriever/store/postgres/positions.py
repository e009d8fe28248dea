"""Sequences, and which history of the store they are of."""

from itertools import groupby
from typing import Any

from services.retriever.store.postgres.connection import Connection
from services.retriever.store.records import Head

# Sequences that were seen before a backup was restored say something else after it. Nothing is
# restored under a server that runs, other than into tables that are made anew.
_OPENING = (
    "SELECT md5(concat_ws(' ', identity, pg_postmaster_start_time(), 'store'::regclass::oid,"
    " (SELECT oid FROM pg_database WHERE datname = current_database()))) FROM store"
)
# The same after a restart, and another on another server or timeline: that begins where a backup
# is restored, or a standby takes over.
_PAST = (
    "SELECT concat_ws(' ', identity, 'store'::regclass::oid,"
    " (SELECT oid FROM pg_database WHERE datname = current_database()),"
    " (SELECT system_identifier FROM pg_control_system()),"
    " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)) FROM store"
)


def opening(connection: Connection) -> str:
    """The name under which sequences are given, the same for all who read them."""
    return str(_only(connection, _OPENING))


def past(connection: Connection) -> str:
    return str(_only(connection, _PAST))


def identity(connection: Connection) -> str:
    return str(_only(connection, "SELECT identity FROM store"))


def last(connection: Connection, generation_key: int) -> list[int]:
    """The last sequence of each shard."""
    rows: Any = connection.execute(
        "SELECT seq FROM shard WHERE generation_key = %s ORDER BY shard", (generation_key,)
    )
    return [seq for (seq,) in rows]


def purged(connection: Connection, generation_key: int, shard: int) -> int:
    """The last sequence of the tombstones of a shard that are gone; 0: none is, or the shard is."""
    row: Any = connection.execute(
        "SELECT purged_seq FROM shard WHERE generation_key = %s AND shard = %s",
        (generation_key, shard),
    ).fetchone()
    return int(row[0]) if row else 0


def heads(connection: Connection) -> list[Head]:
    """Of the collections that are there."""
    rows: Any = connection.execute(
        "SELECT g.key, c.updated_ns, s.seq FROM collection c"
        " JOIN generation g ON g.collection_key = c.key AND g.number = c.generation_number"
        " JOIN shard s ON s.generation_key = g.key"
        " WHERE NOT c.dropped ORDER BY g.key, s.shard"
    )
    return [
        Head(key, updated_ns, tuple(row[2] for row in group))
        for (key, updated_ns), group in groupby(rows, key=lambda row: row[:2])
    ]


def _only(connection: Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
