"""Sequences: where writes stand in the logs of their shards."""

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from services.retriever.store.records import Head, Position
from services.retriever.store.sqlite.commit import Written


class Step(NamedTuple):
    """A write that needs a place in the log, and what it adds to its shard's counts."""

    shard: int
    documents: int = 0
    passages: int = 0


def take(
    connection: sqlite3.Connection, generation_key: int, steps: Sequence[Step]
) -> list[Position]:
    """The next sequences of the shards, in the order of the steps.

    The rows stay locked until the commit, so sequences are committed in their
    order and without a gap.
    """
    by_shard: dict[int, list[Step]] = {}
    for step in steps:
        by_shard.setdefault(step.shard, []).append(step)
    following: dict[int, int] = {}
    for shard, own in by_shard.items():
        (last,) = connection.execute(
            "UPDATE shard SET seq = seq + ?, documents = documents + ?, passages = passages + ?"
            " WHERE generation_key = ? AND shard = ? RETURNING seq",
            (
                len(own),
                sum(step.documents for step in own),
                sum(step.passages for step in own),
                generation_key,
                shard,
            ),
        ).fetchone()
        following[shard] = last - len(own) + 1
    positions = []
    for step in steps:
        positions.append(Position(generation_key, step.shard, following[step.shard]))
        following[step.shard] += 1
    return positions


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
