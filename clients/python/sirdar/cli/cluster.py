"""The commands `sirdar cluster status|drain|undrain|remove`."""

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from sirdar.client.cluster import Cluster, ClusterClient, Member

cluster = typer.Typer(
    no_args_is_help=True,
    help="Show the retrievers that share a store; take one out without a gap.",
)

Name = Annotated[str, typer.Argument(help="Of a retriever: its setting `name`.")]

_POLL_SECONDS = 0.5


@cluster.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who has shards; exit code 1 while some are on fewer members than they are to be."""
    connection: Connection = context.obj
    with explained(connection), connection.open_cluster() as client:
        found = client.status()
    if as_json:
        print(json.dumps(asdict(found), indent=2, default=str))
    else:
        _show(found)
    if not found.fully_replicated:
        raise typer.Exit(1)


@cluster.command()
def drain(
    context: typer.Context,
    name: Name,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where fewer are left than each shard is to be on."),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until others have all its shards.")
    ] = 600.0,
) -> None:
    """Have others take over all shards of a member, and wait for it."""
    connection: Connection = context.obj
    with explained(connection), connection.open_cluster() as client:
        client.drain(name, force=force)
        left = _handed_over(client, name, timeout)
    if left:
        print(
            f"error: after {timeout:g} s {left:,} shards of {one_line(name)} are not on enough "
            "others yet; it goes on, and so does the wait with this command",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print(
        f"{one_line(name)} has no shard that others lack: end it, then "
        f"`sirdar cluster remove {one_line(name)}`"
    )


@cluster.command()
def undrain(context: typer.Context, name: Name) -> None:
    """Let a member that drains, or has drained, have shards again."""
    connection: Connection = context.obj
    with explained(connection), connection.open_cluster() as client:
        client.undrain(name)
    print(f"{one_line(name)} has shards again")


@cluster.command()
def remove(
    context: typer.Context,
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also one that has shards: it is lost for good.")
    ] = False,
) -> None:
    """Forget a member that has drained and ended."""
    connection: Connection = context.obj
    with explained(connection), connection.open_cluster() as client:
        client.remove(name, force=force)
    print(f"removed {one_line(name)}")


def _handed_over(client: "ClusterClient", name: str, timeout_seconds: float) -> int:
    """Waits, and shows how many shards are left; answers how many are when the time is up."""
    until = time.monotonic() + timeout_seconds
    shown = -1
    while True:
        member = next((item for item in client.status().members if item.name == name), None)
        left = member.shards_to_hand_over if member else 0
        if left != shown:
            print(f"{one_line(name)}: {left:,} shards to hand over", flush=True)
            shown = left
        if not left or time.monotonic() >= until:
            return left
        time.sleep(_POLL_SECONDS)


def _show(found: "Cluster") -> None:
    from rich.console import Console

    print(
        f"{found.fully_replicated_shards:,} of {found.shards:,} shards are on "
        f"{found.replication} retrievers"
    )
    active = sum(not item.draining for item in found.members)
    if active < found.replication:
        print(f"{active} have shards, fewer than {found.replication}: add a retriever")
    Console(highlight=False).print(_table(found))


def _table(found: "Cluster") -> "Table":
    from rich.table import Table

    table = Table("retriever", "state", box=None)
    for title in ("wanted", "ready", "to hand over"):
        table.add_column(title, justify="right")
    for item in found.members:
        table.add_row(
            one_line(item.name),
            _state(item),
            f"{item.shards_wanted:,}",
            f"{item.shards_ready:,}",
            f"{item.shards_to_hand_over:,}" if item.draining else "",
        )
    return table


def _state(item: "Member") -> str:
    if not item.draining:
        return "member"
    return "draining" if item.shards_to_hand_over else "drained"
