"""Entry point of the command `sirdar`."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sirdar.cli.cluster import cluster
from sirdar.cli.collections import collections
from sirdar.cli.connection import DEFAULT_ADDRESS, Connection
from sirdar.cli.doctor import doctor
from sirdar.cli.documents import documents
from sirdar.cli.index import index
from sirdar.cli.search import search
from sirdar.cli.status import status
from sirdar.cli.terminal import one_line

COMMANDS_GROUP = "sirdar.commands"
INTERRUPTED = 130


class Commands(TyperGroup):
    """Our commands, and those that other installed distributions add.

    An added command is loaded when it is called or listed, and not for the others.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_added())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        added = _added().get(cmd_name)
        return None if added is None else _command(cmd_name, added.load())


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMANDS_GROUP)}


def _command(name: str, function: Callable[..., None]) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name)(function)
    return typer.main.get_command(app)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(index)
app.command()(search)
app.command()(status)
app.command()(doctor)
app.add_typer(documents, name="documents")
app.add_typer(collections, name="collections")
app.add_typer(cluster, name="cluster")


@app.callback()
def options(
    context: typer.Context,
    address: Annotated[
        str, typer.Option(envvar="SIRDAR_ADDRESS", help="Gateway, host:port.")
    ] = DEFAULT_ADDRESS,
    namespace: Annotated[
        str, typer.Option(envvar="SIRDAR_NAMESPACE", help="Tenant; empty: the default one.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that a call may take.")] = 30.0,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="SIRDAR_CA_FILE", help="PEM roots of the gateway; unset: no TLS."),
    ] = None,
    certificate_file: Annotated[
        Path | None,
        typer.Option(envvar="SIRDAR_CERTIFICATE_FILE", help="PEM certificate of our own."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(envvar="SIRDAR_KEY_FILE", help="PEM private key of it.")
    ] = None,
) -> None:
    """Semantic search that you host yourself."""
    if ca_file is None and (certificate_file or key_file):
        raise typer.BadParameter("is needed beside a certificate", param_hint="--ca-file")
    context.obj = Connection(address, namespace, timeout, ca_file, certificate_file, key_file)


def main() -> None:
    """Runs the command; errors are one line, and the exit code says what kind.

    1: an error or something refused; 2: wrong usage; 130: Ctrl-C.
    """
    code: int | str | None = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        # A file of the user's; failed calls are explained where they are made.
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {one_line(message)}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(_flushed(code))


def _flushed(code: int | str | None) -> int | str | None:
    """The exit code, after what is buffered was written: a reader that left is no error of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
