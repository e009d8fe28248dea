"""Who shares the store, in SQL. Whoever changes it locks the row of the store."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from services.cluster.membership import Member, Membership, Replica
from services.retriever.store.group_commit import ShardKey, Written
from services.retriever.store.postgres.connection import Connection
from services.retriever.store.postgres.transaction import Transaction
from sirdar.errors import FailedPrecondition, NotFound


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


def drain(transaction: Transaction, name: str, *, force: bool) -> Written[Membership]:
    """Lets a member have no shards any more. Raises NotFound, and FailedPrecondition where fewer
    than are to have each shard would be left, unless forced, or none."""
    before = _of(transaction, name)
    left = [item for item in before.active if item != name]
    if not left or (len(left) < before.replication and not force):
        raise FailedPrecondition(
            f"without {name} {len(left)} members would have shards, and each shard is to be on "
            f"{before.replication}: add a retriever first" + (", or force it" if left else ""),
            reason="TOO_FEW_MEMBERS",
        )
    return _changed(transaction, "UPDATE member SET draining = TRUE WHERE name = %s", name)


def undrain(transaction: Transaction, name: str) -> Written[Membership]:
    """Lets a member have shards again. Raises NotFound."""
    _of(transaction, name)
    return _changed(transaction, "UPDATE member SET draining = FALSE WHERE name = %s", name)


def remove(transaction: Transaction, name: str, *, force: bool) -> Written[Membership]:
    """Raises NotFound, and FailedPrecondition where it has shards that others do not have as
    often as they are to be had, unless forced, or where none would be left."""
    before = _of(transaction, name)
    left = [item for item in before.active if item != name]
    if not left:
        raise FailedPrecondition(
            f"{name} is the last member that has shards: add a retriever first",
            reason="TOO_FEW_MEMBERS",
        )
    if name in before.active and not force:
        raise FailedPrecondition(
            f"{name} has shards: drain it first, or force it where it is lost for good",
            reason="NOT_DRAINED",
        )
    waiting = to_hand_over(transaction.connection, name, min(before.replication, len(left)))
    if waiting and not force:
        raise FailedPrecondition(
            f"{waiting} shards of {name} are not on {before.replication} others yet: wait, or "
            "force it where it is lost for good",
            reason="NOT_DRAINED",
        )
    return _changed(transaction, "DELETE FROM member WHERE name = %s", name)


def to_hand_over(connection: Connection, name: str, copies: int) -> int:
    """The shards of a member that fewer others are ready with than so many."""
    row: Any = connection.execute(
        "SELECT count(*) FROM replica mine WHERE mine.member = %s AND %s > (SELECT count(*)"
        " FROM replica r WHERE r.generation_key = mine.generation_key AND r.shard = mine.shard"
        " AND r.ready AND r.member <> mine.member)",
        (name, copies),
    ).fetchone()
    return int(row[0])


def _of(transaction: Transaction, name: str) -> Membership:
    """The membership, which nobody changes until the end. Raises NotFound."""
    transaction.connection.execute("SELECT FROM store FOR UPDATE")
    found = membership(transaction.connection)
    if all(item.name != name for item in found.members):
        names = ", ".join(item.name for item in found.members[:20])
        raise NotFound(
            f"there is no member {name!r}; the members are {names}", reason="MEMBER_NOT_FOUND"
        )
    return found


def _changed(transaction: Transaction, statement: LiteralString, name: str) -> Written[Membership]:
    connection = transaction.connection
    connection.execute(statement, (name,))
    connection.execute("UPDATE store SET membership = membership + 1")
    return Written(membership(connection))


def replicas(connection: Connection) -> list[Replica]:
    """All of the collections that are there."""
    rows: Any = connection.execute(
        "SELECT r.generation_key, r.shard, r.member, r.ready FROM replica r"
        " JOIN generation g ON g.key = r.generation_key"
        " JOIN collection c ON c.key = g.collection_key AND c.generation_number = g.number"
        " WHERE NOT c.dropped"
    )
    return [Replica(*row) for row in rows]


def held(connection: Connection, name: str) -> list[ShardKey]:
    """What a member has, or had before it ended."""
    rows: Any = connection.execute(
        "SELECT generation_key, shard FROM replica WHERE member = %s", (name,)
    )
    return [(key, shard) for key, shard in rows]


def ready(connection: Connection, shards: Sequence[ShardKey]) -> dict[ShardKey, frozenset[str]]:
    """The members that are ready with each of these shards."""
    rows: Any = connection.execute(
        "SELECT generation_key, shard, array_agg(member) FROM replica"
        " JOIN unnest(%s::bigint[], %s::integer[]) AS wanted (generation_key, shard)"
        " USING (generation_key, shard) WHERE ready GROUP BY generation_key, shard",
        _columns(shards),
    )
    return {(key, shard): frozenset(names) for key, shard, names in rows}


def note(
    transaction: Transaction, name: str, shards: Sequence[ShardKey], *, ready: bool
) -> Written[None]:
    """Those shards of a member that are there, and itself where it still is one."""
    transaction.connection.execute(
        "INSERT INTO replica SELECT generation.key, wanted.shard, member.name, %s"
        " FROM unnest(%s::bigint[], %s::integer[]) AS wanted (key, shard)"
        " JOIN generation USING (key) JOIN member ON member.name = %s"
        " ON CONFLICT (generation_key, shard, member) DO UPDATE SET ready = excluded.ready",
        (ready, *_columns(shards), name),
    )
    return Written(None)


def give_up(
    transaction: Transaction, name: str, version: int, owners: Mapping[ShardKey, frozenset[str]]
) -> Written[list[ShardKey]]:
    """Those of the shards that a member has no more, as all their owners by this version of the
    membership are ready; no two give up at a time, each for the other's sake."""
    connection = transaction.connection
    connection.execute("SELECT FROM store FOR UPDATE")
    if membership(connection).version != version:
        return Written([])
    there = ready(connection, list(owners))
    given = [key for key, names in owners.items() if names <= there.get(key, frozenset())]
    connection.execute(
        "DELETE FROM replica USING unnest(%s::bigint[], %s::integer[]) AS given (key, shard)"
        " WHERE generation_key = given.key AND replica.shard = given.shard AND member = %s",
        (*_columns(given), name),
    )
    return Written(given)


def under_replicated(connection: Connection) -> int:
    """Shards of the collections that are there which fewer members are ready with than there are
    to be."""
    row: Any = connection.execute(
        "SELECT count(*) FROM (SELECT FROM collection c JOIN generation g"
        " ON g.collection_key = c.key AND g.number = c.generation_number"
        " JOIN shard s ON s.generation_key = g.key"
        " LEFT JOIN replica r ON r.generation_key = g.key AND r.shard = s.shard AND r.ready"
        " WHERE NOT c.dropped GROUP BY g.key, s.shard"
        " HAVING count(r.member) < (SELECT replication FROM store)) AS few"
    ).fetchone()
    return int(row[0])


def _columns(shards: Sequence[ShardKey]) -> tuple[list[int], list[int]]:
    return [key for key, _ in shards], [shard for _, shard in shards]
