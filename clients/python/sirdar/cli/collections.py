"""The commands `sirdar collections list|show|create|update|delete`."""

import json
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained, one_line

if TYPE_CHECKING:
    from sirdar.client import Collection, RerankSettings
    from sirdar.client.options import CollectionChanges, CollectionOptions

collections = typer.Typer(
    no_args_is_help=True, help="List, show, create, change and delete collections."
)

Name = Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, - and _, a letter first.")]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="NAME:TYPE",
        help="A metadata field that filters may name, repeatable: keyword, keyword_list, integer, "
        "float, boolean, timestamp or text.",
    ),
]


@collections.command("list")
def list_all(context: typer.Context) -> None:
    """Show all collections of the namespace."""
    from rich.console import Console

    from sirdar.cli.status import collections_table

    connection: Connection = context.obj
    with explained(connection), connection.open() as client:
        found = list(client.list_collections())
    if found:
        Console(highlight=False).print(collections_table(found))
    else:
        print("No collections yet.")


@collections.command()
def create(
    context: typer.Context,
    name: Name,
    model: Annotated[
        str, typer.Option(help="Embedding model.", show_default="the embedder's own")
    ] = "",
    revision: Annotated[str, typer.Option(help="The model's hub revision.")] = "",
    shards: Annotated[int, typer.Option(help="How many.", show_default="the server's choice")] = 0,
    index: Annotated[
        str,
        typer.Option(
            "--index-kind",
            "--index",
            help="auto, hnsw, flat, hnsw_sq8, ivf_sq8, ivf_pq or a factory string of FAISS.",
            show_default="the server's choice",
        ),
    ] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    field: Fields = None,
    lexical: Annotated[
        bool, typer.Option("--lexical/--no-lexical", help="Whether words are indexed, too.")
    ] = True,
    language: Annotated[
        str,
        typer.Option(
            help="Whose words are stemmed: en, de, ... or none.",
            show_default="the server's choice",
        ),
    ] = "",
) -> None:
    """Create an empty collection."""
    from sirdar.client import Model

    connection: Connection = context.obj
    options: CollectionOptions = {
        "shards": shards,
        "index_kind": index,
        "description": description,
        "schema": _schema(field or []),
        "lexical": lexical,
        "language": language,
    }
    if model:
        options["model"] = Model(model, revision)
    with explained(connection), connection.open() as client:
        made = client.create_collection(name, **options)
    space = made.generation.space
    print(f"created {made.name}: {space.model.name}, {space.dimensions} dimensions")


@collections.command()
def show(
    context: typer.Context,
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all that is known of a collection."""
    connection: Connection = context.obj
    with explained(connection), connection.open() as client:
        found = client.get_collection(name)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=2, default=_plain))
        return
    for key, value in _facts(found):
        print(f"{key:<12}{one_line(value)}")


@collections.command()
def update(
    context: typer.Context,
    name: Name,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Repeatable; replaces all labels."),
    ] = None,
    rerank: Annotated[
        bool | None, typer.Option("--rerank/--no-rerank", help="Whether searches rerank.")
    ] = None,
    rerank_depth: Annotated[
        int | None, typer.Option(help="How many of the best documents are reranked.")
    ] = None,
    rerank_weight: Annotated[
        float | None, typer.Option(help="Weight of the cross-encoder's score.")
    ] = None,
    retriever_weight: Annotated[
        float | None, typer.Option(help="Weight of the retriever's score.")
    ] = None,
    field: Fields = None,
) -> None:
    """Change a collection's description, labels, how its searches rerank; add fields."""
    from dataclasses import replace

    given: dict[str, Any] = {
        "enabled": rerank,
        "depth": rerank_depth,
        "weight": rerank_weight,
        "retriever_weight": retriever_weight,
    }
    given = {key: value for key, value in given.items() if value is not None}
    changes: CollectionChanges = {}
    if description is not None:
        changes["description"] = description
    if label is not None:
        changes["labels"] = _labels(label)
    connection: Connection = context.obj
    fields = _schema(field or [])
    with explained(connection), connection.open() as client:
        # The contract replaces these settings whole; what was not given stays.
        if given:
            changes["rerank"] = replace(client.get_collection(name).rerank, **given)
        if fields:
            changes["schema"] = {**client.get_collection(name).schema, **fields}
        client.update_collection(name, **changes)
    print(f"updated {name}")


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{item!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


def _schema(given: list[str]) -> dict[str, str]:
    schema = {}
    for item in given:
        name, colon, kind = item.rpartition(":")
        if not (name and colon and kind):
            raise typer.BadParameter(f"{item!r} is not NAME:TYPE", param_hint="--field")
        schema[name] = kind
    return schema


def _facts(found: "Collection") -> list[tuple[str, str]]:
    generation, space = found.generation, found.generation.space
    similarity = generation.similarity.value if generation.similarity else "unknown"
    facts = [
        ("name", found.name),
        ("namespace", found.namespace),
        ("description", found.description),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(found.labels.items()))),
        ("documents", f"{found.documents:,}"),
        ("passages", f"{found.passages:,}"),
        ("model", f"{space.model.name} {space.model.revision}"),
        ("dimensions", f"{space.dimensions}, compared by {similarity}"),
        ("fingerprint", space.fingerprint),
        ("generation", str(generation.number)),
        ("shards", f"{generation.shards}, {generation.index_kind}"),
        ("index", found.index_explanation),
        ("words", _words(found)),
        ("schema", ", ".join(f"{name}:{kind}" for name, kind in found.schema.items())),
        ("rerank", _rerank(found.rerank)),
        ("created", f"{found.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("updated", f"{found.updated:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return [(key, value) for key, value in facts if value]


def _words(found: "Collection") -> str:
    lexical = found.lexical
    return f"indexed, language {lexical.language}" if lexical.enabled else "not indexed"


def _rerank(settings: "RerankSettings") -> str:
    given = {key: value for key, value in asdict(settings).items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in given.items()) or "as the server does"


def _plain(value: object) -> str:
    """What JSON has no kind for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return str(value.value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@collections.command()
def delete(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a collection and all that is in it."""
    connection: Connection = context.obj
    if not yes:
        typer.confirm(f"Delete {name} and all its documents?", abort=True)
    with explained(connection), connection.open() as client:
        client.delete_collection(name)
    print(f"deleted {name}")
