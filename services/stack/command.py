"""The command `sirdar up`."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    # Loaded when the command runs: `sirdar --help` reads this module, too.
    from services.stack.console import UpConsole
    from services.stack.stack import Stack

_CHECK_SECONDS = 0.2


def up(
    port: Annotated[
        int,
        typer.Option(
            min=1,
            max=65_400,
            help="Port of the gateway. Embedder, retriever and reranker follow (+1 to +3), "
            "metrics at +90 on.",
        ),
    ] = 7700,
    data: Annotated[
        Path | None, typer.Option(help="Data folder.", show_default="the user's data folder")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Model of the embedder: a Hugging Face name, path:/folder or package:name.",
            show_default="the embedder's own",
        ),
    ] = "",
    reranker: Annotated[
        str,
        typer.Option(
            help="Model of the reranker, named likewise, or none to do without.",
            show_default="the built-in one",
        ),
    ] = "",
    replicas: Annotated[
        int,
        typer.Option(
            min=1,
            max=8,
            help="Retrievers that have each shard. Without --store one writes, and the others are "
            "read replicas of it.",
        ),
    ] = 1,
    retrievers: Annotated[
        int | None,
        typer.Option(
            min=1, max=16, help="Retrievers that share --store.", show_default="as --replicas"
        ),
    ] = None,
    embedders: Annotated[int, typer.Option(min=1, max=16, help="Embedders.")] = 1,
    rerankers: Annotated[int, typer.Option(min=1, max=16, help="Rerankers.")] = 1,
    gateways: Annotated[
        int,
        typer.Option(min=1, max=16, help="Gateways; the first is at --port and answers HTTP."),
    ] = 1,
    store: Annotated[
        str,
        typer.Option(
            envvar="SIRDAR_STORE",
            help="PostgreSQL where the retrievers keep documents: "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
            show_default="SQLite in the data folder",
            show_envvar=True,
        ),
    ] = "",
    cache: Annotated[
        str,
        typer.Option(
            envvar="SIRDAR_CACHE",
            help="Redis where the gateways keep answers: redis://HOST:PORT.",
            show_default="each in its memory",
            show_envvar=True,
        ),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show the tiers' logs.")] = False,
) -> None:
    """Start all tiers on this machine, until Ctrl-C."""
    import platformdirs

    from services.stack.cluster import Shape
    from services.stack.console import UpConsole
    from services.stack.stack import NO_RERANKER, Stack
    from sirdar.errors import InvalidArgument

    folder = data or Path(platformdirs.user_data_dir("sirdar", appauthor=False))
    console = UpConsole(quiet=quiet)
    try:
        shape = Shape(retrievers, replicas, embedders, rerankers, gateways, store, cache)
        if reranker == NO_RERANKER and rerankers > 1:
            raise InvalidArgument.field(
                "--rerankers",
                f"is {rerankers}, and --reranker none does without any: leave one of them out",
            )
    except InvalidArgument as error:
        console.error(error.message)
        sys.exit(2)
    stack = Stack(
        folder.expanduser().absolute(),
        port=port,
        model=model,
        reranker=reranker,
        tiers=shape.tiers(),
        environment=shape.environment(),
        log=console.log,
    )
    sys.exit(run(stack, console))


def run(stack: "Stack", console: "UpConsole") -> int:
    """Keeps the stack up until it is told to stop or a tier dies; returns the exit code."""
    from services.stack.stack import TierDied
    from sirdar.errors import SirdarError

    signal.signal(signal.SIGTERM, _exit)
    # Under nohup the end of the terminal is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _exit)
    console.starting(stack)
    try:
        stack.start(console.ready)
        console.up(stack)
        while True:
            stack.check()
            time.sleep(_CHECK_SECONDS)
    except KeyboardInterrupt:
        return 130
    except TierDied as died:
        console.died(died)
        return 1
    except SirdarError as error:
        console.error(error.message)
        return 1
    finally:
        if stack.running:
            with console.stopping():
                stack.stop()


def _exit(number: int, frame: FrameType | None) -> None:
    """SIGTERM and a closed terminal stop the stack as Ctrl-C does, but are no error."""
    raise SystemExit(0)
