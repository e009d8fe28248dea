"""Collections and their generations as rows, whatever database they are in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.retriever.store.records import (
    Collection,
    FieldSchema,
    FieldType,
    Generation,
    LexicalSettings,
    Similarity,
    Space,
)
from sirdar.errors import AlreadyExists, InvalidArgument, NotFound

SELECT = """
    SELECT n.name, c.name, c.description, c.labels, c.created_ns, c.updated_ns,
        g.key, g.number, g.model, g.revision, g.dimensions, g.fingerprint, g.shards,
        g.index_kind, g.similarity,
        (SELECT sum(documents) FROM shard WHERE generation_key = g.key),
        (SELECT sum(passages) FROM shard WHERE generation_key = g.key),
        c.rerank, c.lexical, c.schema
    FROM collection c
    JOIN namespace n ON n.key = c.namespace_key
    JOIN generation g ON g.collection_key = c.key AND g.number = c.generation_number
    WHERE NOT c.dropped
"""


def check_grown(old: Sequence[FieldSchema], new: Sequence[FieldSchema]) -> None:
    """Raises InvalidArgument where the new schema lacks a field or has it with another type."""
    types = {field.name: field.type for field in new}
    for field in old:
        if types.get(field.name) is not field.type:
            raise InvalidArgument.field(
                "collection.schema",
                f"must keep the field {field.name!r} of type {field.type}; an update may only add "
                "fields, so give all of them, and the new values a field with a new name",
                reason="IMMUTABLE_FIELD",
            )


def labels_text(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def lexical_text(settings: LexicalSettings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)


def schema_text(fields: Sequence[FieldSchema]) -> str:
    return json.dumps([asdict(field) for field in fields])


def already_there(namespace: str, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"there is a collection {namespace}/{name} already; delete it first or choose another name",
        reason="COLLECTION_EXISTS",
    )


def not_found(namespace: str, name: str) -> NotFound:
    return NotFound(
        f"there is no collection {namespace}/{name}; create it first",
        reason="COLLECTION_NOT_FOUND",
    )


def collection_of(row: tuple[Any, ...]) -> Collection:
    """Of a row of `SELECT`."""
    return Collection(
        namespace=row[0],
        name=row[1],
        description=row[2],
        labels=json.loads(row[3]),
        rerank=row[17],
        created_ns=row[4],
        updated_ns=row[5],
        generation=Generation(
            key=row[6],
            number=row[7],
            space=Space(row[8], row[9], row[10], row[11]),
            shards=row[12],
            index_kind=row[13],
            similarity=Similarity(row[14]),
        ),
        documents=int(row[15]),
        passages=int(row[16]),
        lexical=LexicalSettings(**json.loads(row[18])),
        schema=tuple(
            FieldSchema(item["name"], FieldType(item["type"])) for item in json.loads(row[19])
        ),
    )
