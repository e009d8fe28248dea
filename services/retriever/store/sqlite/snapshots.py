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


def note(
    connection: sqlite3.Connection, generation: Generation, name: str, forgotten: Sequence[str]
) -> Written[None]:
    connection.executemany(
        "DELETE FROM snapshot WHERE generation_key = ? AND name = ?",
        [(generation.key, item) for item in forgotten],
    )
    # None, where the collection was deleted meanwhile.
    connection.execute(
        "INSERT INTO snapshot SELECT key, ? FROM generation WHERE key = ?", (name, generation.key)
    )
    return Written(None)
