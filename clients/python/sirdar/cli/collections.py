"""The commands `sirdar collections list|create|delete`."""

from typing import Annotated, Any

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained

collections = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, create and delete collections."
)

Name = Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, - and _, a letter first.")]


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
        str, typer.Option(help="hnsw or flat.", show_default="the server's choice")
    ] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Create an empty collection."""
    from sirdar.client import Model

    connection: Connection = context.obj
    options: dict[str, Any] = {"model": Model(model, revision)} if model else {}
    with explained(connection), connection.open() as client:
        made = client.create_collection(
            name, shards=shards, index_kind=index, description=description, **options
        )
    space = made.generation.space
    print(f"created {made.name}: {space.model.name}, {space.dimensions} dimensions")


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
