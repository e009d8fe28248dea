"""Which snapshots of its indexes the store knows."""

import sqlite3
from collections.abc import Sequence

from services.retriever.store.group_commit import Written
from services.retriever.store.records import Generation


def identity(connection: sqlite3.Connection) -> str:
    (found,) = connection.execute("SELECT identity FROM store").fetchone()
    return str(found)


def known(connection: sqlite3.Connection, generation: Generation) -> list[str]:
    return [
        name
        for (name,) in connection.execute(
            "SELECT name FROM snapshot WHERE generation_key = ? ORDER BY name", (generation.key,)
        )
    ]


def keep(
    connection: sqlite3.Connection, generation: Generation, names: Sequence[str]
) -> Written[None]:
    connection.execute("DELETE FROM snapshot WHERE generation_key = ?", (generation.key,))
    # None, where the collection was deleted meanwhile.
    connection.executemany(
        "INSERT INTO snapshot SELECT key, ? FROM generation WHERE key = ?",
        [(name, generation.key) for name in names],
    )
    return Written(None)
