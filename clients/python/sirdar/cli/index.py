"""The command `sirdar index`."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained

if TYPE_CHECKING:
    from sirdar.cli.index_run import IndexRun
    from sirdar.cli.inputs import Input
    from sirdar.cli.progress import IndexProgress
    from sirdar.client import Client, Collection


def index(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="JSON lines with id, title, text and metadata (- for standard input), CSV, files "
            "or folders of text, Markdown and HTML, BEIR folders.",
        ),
    ] = None,
    python_docs: Annotated[
        bool,
        typer.Option("--python-docs", help="Documentation strings of installed Python packages."),
    ] = False,
    package: Annotated[
        list[str] | None,
        typer.Option(help="Only of this package; repeatable; stdlib for the standard library."),
    ] = None,
    collection: Annotated[str, typer.Option(help="Where to; made if it is missing.")] = "docs",
    text_column: Annotated[
        str,
        typer.Option(help="The CSV column with the text.", show_default="text, content or body"),
    ] = "",
    refused: Annotated[
        Path | None,
        typer.Option(help="Write all refused and skipped documents to this file, as JSON lines."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where indexing of the same file broke off."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Then index what changes in the folders, delete what vanishes."
        ),
    ] = False,
) -> None:
    """Index documents, from files or out of Python packages; exit code 1 if some are refused.

    A file's id is its path below the folder; hidden files are passed over.
    """
    from sirdar.cli.index_run import IndexRun
    from sirdar.cli.progress import IndexProgress
    from sirdar.cli.refusals import Refusals

    _check_usage(paths, package, python_docs=python_docs, watch=watch)
    connection: Connection = context.obj
    with ExitStack() as stack:
        stack.enter_context(explained(connection))
        inputs = _inputs(paths or [], package or [], text_column, stack)
        client = stack.enter_context(connection.open())
        target = ensured_collection(client, collection)
        sizes = [item.source.total_bytes for item in inputs]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        progress = stack.enter_context(IndexProgress(total))
        refusals = stack.enter_context(Refusals(refused, progress.print, append=resume))
        run = IndexRun(client, target, progress, refusals)
        try:
            if watch:
                _watch(client, collection, paths or [], run, progress)
            else:
                where = f"{connection.address} {target.namespace} {target.name} {target.created}"
                _index_all(run, inputs, where, progress, resume=resume)
        finally:
            progress.stop()
            print(run.summary())
    if refusals.count:
        raise typer.Exit(1)


def _check_usage(
    paths: list[str] | None, package: list[str] | None, *, python_docs: bool, watch: bool
) -> None:
    if not paths and not python_docs:
        raise typer.BadParameter("give files or folders, or --python-docs", param_hint="PATH...")
    if paths and python_docs:
        raise typer.BadParameter("give either paths or --python-docs", param_hint="PATH...")
    if package and not python_docs:
        raise typer.BadParameter("goes with --python-docs", param_hint="--package")
    if watch and not all(Path(path).is_dir() for path in paths or [""]):
        raise typer.BadParameter("watches folders only, and they must exist", param_hint="--watch")


def _inputs(
    paths: list[str], packages: list[str], text_column: str, stack: ExitStack
) -> "list[Input]":
    from sirdar.cli.inputs import Input, open_inputs

    if paths:
        return open_inputs(paths, text_column, stack)
    from sirdar.cli.python_docs import PythonDocs

    return [Input(PythonDocs(packages))]


def ensured_collection(client: "Client", name: str) -> "Collection":
    """The collection, made with the server's defaults if it is missing."""
    from sirdar.errors import AlreadyExists, NotFound

    try:
        return client.get_collection(name)
    except NotFound:
        try:
            made = client.create_collection(name)
        except AlreadyExists:
            return client.get_collection(name)
    print(f"created collection {name}", file=sys.stderr)
    return made


def _index_all(
    run: "IndexRun",
    inputs: "list[Input]",
    target: str,
    progress: "IndexProgress",
    *,
    resume: bool,
) -> None:
    from sirdar.cli.checkpoint import Checkpoint

    for item in inputs:
        if item.file is None:
            run.index(item.source)
            continue
        with Checkpoint(item.file, target, progress.print) as checkpoint:
            if resume:
                run.resume(item, checkpoint)
            try:
                run.index(item.source, checkpoint)
            except BaseException:
                if checkpoint.started:
                    progress.print(f"{item.file} was broken off: --resume goes on from there")
                raise


def _watch(
    client: "Client",
    collection: str,
    paths: list[str],
    run: "IndexRun",
    progress: "IndexProgress",
) -> None:
    from sirdar.cli.watch import Watch

    # A bar has no end to run to here; what happens is said line by line.
    progress.stop()
    Watch(client, collection, [Path(path) for path in paths], run, progress.print).forever()
