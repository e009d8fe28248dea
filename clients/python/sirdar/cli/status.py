"""The command `sirdar status`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from sirdar.client import Collection

# Where `sirdar up` puts the tiers, counted from the gateway's port.
_BESIDE_GATEWAY = {"embedder": 1, "retriever": 2, "reranker": 3}
# Searches go on without it, and a stack may be started without it.
_OPTIONAL = "reranker"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEALTH_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TierStatus:
    """`state` is `serving`, `not serving`, `unknown` or `down`."""

    name: str
    address: str
    state: str

    @property
    def serving(self) -> bool:
        return self.state == "serving"


def status(
    context: typer.Context,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="Another tier to ask; repeatable. Beside a gateway on this machine the tiers of "
            "`sirdar up` are asked without.",
        ),
    ] = None,
) -> None:
    """Show the health of the tiers and what is stored; exit code 1 where a needed one is down."""
    connection: Connection = context.obj
    tiers = [_ask(connection, name, at) for name, at in _addresses(connection, tier or [])]
    _show_tiers(tiers)
    if tiers[0].serving:
        with explained(connection), connection.open() as client:
            _show_collections(list(client.list_collections()))
    if not all(one.serving for one in tiers if tier or one.name != _OPTIONAL):
        raise typer.Exit(1)


def _addresses(connection: Connection, tiers: list[str]) -> list[tuple[str, str]]:
    """Names and addresses of the tiers to ask, the gateway first."""
    addresses = {"gateway": connection.address}
    host, _, port = connection.address.rpartition(":")
    if host in _LOOPBACK and port.isdigit() and not tiers:
        addresses |= {name: f"{host}:{int(port) + by}" for name, by in _BESIDE_GATEWAY.items()}
    for given in tiers:
        name, equals, address = given.partition("=")
        if not (name and equals and address):
            raise typer.BadParameter(f"{given!r} is not NAME=HOST:PORT", param_hint="--tier")
        addresses[name] = address
    return list(addresses.items())


def _ask(connection: Connection, name: str, address: str) -> TierStatus:
    from sirdar.errors import DeadlineExceeded, Unavailable

    with explained(connection), connection.open(address) as client:
        timeout = min(connection.timeout_seconds, _HEALTH_TIMEOUT_SECONDS)
        try:
            state = client.health(timeout_seconds=timeout).value
        except (Unavailable, DeadlineExceeded):
            state = "down"
    return TierStatus(name, address, state)


def _show_tiers(tiers: list[TierStatus]) -> None:
    from rich.console import Console
    from rich.text import Text

    table = _table("tier", "address", "state")
    for one in tiers:
        style = "green" if one.serving else "bold red"
        table.add_row(one.name, one.address, Text(one.state, style=style))
    Console(highlight=False).print(table)


def _show_collections(collections: list["Collection"]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print()
    if not collections:
        console.print("No collections yet: `sirdar index PATH` makes one.")
        return
    console.print(collections_table(collections))


def collections_table(collections: list["Collection"]) -> "Table":
    """One row a collection."""
    table = _table("collection", "documents", "passages", "shards", "index", "model")
    for column in table.columns[1:4]:
        column.justify = "right"
    for item in collections:
        table.add_row(
            item.name,
            f"{item.documents:,}",
            f"{item.passages:,}",
            str(item.generation.shards),
            item.generation.index_kind,
            one_line(item.generation.space.model.name),
        )
    return table


def _table(*headers: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table
