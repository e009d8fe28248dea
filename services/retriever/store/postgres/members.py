"""Who shares the store, in SQL. Whoever changes it locks the row of the store."""

import time
from typing import Any

from services.cluster.membership import Member, Membership
from services.retriever.store.group_commit import Written
from services.retriever.store.postgres.connection import Connection
from services.retriever.store.postgres.transaction import Transaction
from sirdar.errors import FailedPrecondition


def membership(connection: Connection) -> Membership:
    rows: Any = connection.execute(
        "SELECT store.membership, store.replication, member.name, draining, since_ns"
        " FROM store LEFT JOIN member ON TRUE ORDER BY member.name"
    ).fetchall()
    return Membership(
        rows[0][0], rows[0][1], tuple(Member(*row[2:]) for row in rows if row[2] is not None)
    )


def register(transaction: Transaction, name: str, replication: int) -> Written[Membership]:
    """Makes this a member, unless it is one; one that drains goes on to drain. What it has is not
    ready until it says so.

    Raises FailedPrecondition where others agreed on another replication.
    """
    connection = transaction.connection
    connection.execute("SELECT FROM store FOR UPDATE")
    before = membership(connection)
    others = [item.name for item in before.members if item.name != name]
    if replication != before.replication and others:
        raise FailedPrecondition(
            f"`replication` is {replication} here and {before.replication} for those that share "
            f"the store ({', '.join(others[:5])}): set it to {before.replication}; only one that "
            "is the only member may change it",
            reason="REPLICATION_DIFFERS",
        )
    added = connection.execute(
        "INSERT INTO member VALUES (%s, FALSE, %s) ON CONFLICT DO NOTHING", (name, time.time_ns())
    ).rowcount
    if added or replication != before.replication:
        connection.execute(
            "UPDATE store SET replication = %s, membership = membership + 1", (replication,)
        )
    connection.execute("UPDATE replica SET ready = FALSE WHERE member = %s AND ready", (name,))
    return Written(membership(connection))
