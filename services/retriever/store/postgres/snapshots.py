"""Which snapshots of its indexes the store knows."""

from collections.abc import Sequence
from typing import Any

from services.retriever.store.group_commit import Written
from services.retriever.store.postgres.connection import Connection
from services.retriever.store.postgres.transaction import Transaction
from services.retriever.store.records import Generation


def known(connection: Connection, generation: Generation) -> list[str]:
    rows: Any = connection.execute(
        "SELECT name FROM snapshot WHERE generation_key = %s ORDER BY name", (generation.key,)
    )
    return [name for (name,) in rows]


def note(
    transaction: Transaction, generation: Generation, name: str, forgotten: Sequence[str]
) -> Written[None]:
    connection = transaction.connection
    connection.execute(
        "DELETE FROM snapshot WHERE generation_key = %s AND name = ANY(%s)",
        (generation.key, list(forgotten)),
    )
    # None, where the collection was deleted meanwhile.
    connection.execute(
        "INSERT INTO snapshot SELECT key, %s FROM generation WHERE key = %s ON CONFLICT DO NOTHING",
        (name, generation.key),
    )
    return Written(None)
