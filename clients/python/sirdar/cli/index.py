"""The command `sirdar index`."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained

if TYPE_CHECKING:
    from sirdar.cli.progress import IndexProgress
    from sirdar.cli.refusals import Refusals
    from sirdar.cli.source import Found, Source
    from sirdar.client import Client, Document


def index(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.jsonl",
            help='One {"id", "title", "text", "metadata"} a line; - for standard input.',
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
    refused: Annotated[
        Path | None, typer.Option(help="Write all refused documents to this file, as JSON lines.")
    ] = None,
) -> None:
    """Index documents, from a file or out of Python packages; exit code 1 if some are refused."""
    from sirdar.cli.progress import IndexProgress
    from sirdar.cli.refusals import Refusals

    if (file is None) == (not python_docs):
        raise typer.BadParameter("give either FILE.jsonl or --python-docs", param_hint="FILE.jsonl")
    if package and not python_docs:
        raise typer.BadParameter("goes with --python-docs", param_hint="--package")
    connection: Connection = context.obj
    with ExitStack() as stack:
        stack.enter_context(explained(connection))
        source = _source(file, package or [], stack)
        client = stack.enter_context(connection.open())
        if ensure_collection(client, collection):
            print(f"created collection {collection}", file=sys.stderr)
        progress = stack.enter_context(IndexProgress(source.total_bytes))
        refusals = stack.enter_context(Refusals(refused, progress.print))
        run = IndexCommand(client, collection, source, progress, refusals)
        try:
            run.index()
        finally:
            progress.stop()
            print(run.summary())
    if refusals.count:
        raise typer.Exit(1)


def _source(file: str | None, packages: list[str], stack: ExitStack) -> "Source":
    from sirdar.cli.jsonl import JsonLines
    from sirdar.cli.python_docs import PythonDocs

    if file is None:
        return PythonDocs(packages)
    if file == "-":
        return JsonLines(sys.stdin.buffer)
    return JsonLines(stack.enter_context(Path(file).open("rb")))


def ensure_collection(client: "Client", name: str) -> bool:
    """Makes the collection with the server's defaults; False if it is there already."""
    from sirdar.errors import AlreadyExists, NotFound

    try:
        client.get_collection(name)
    except NotFound:
        try:
            client.create_collection(name)
        except AlreadyExists:
            return False
        return True
    return False


class IndexCommand:
    """Feeds a source to the client and accounts for every document of it."""

    def __init__(
        self,
        client: "Client",
        collection: str,
        source: "Source",
        progress: "IndexProgress",
        refusals: "Refusals",
    ) -> None:
        self._client = client
        self._collection = collection
        self._source = source
        self._progress = progress
        self._refusals = refusals
        self._under_way: deque[Found] = deque()
        self._began = time.monotonic()
        self.indexed = 0
        self.unchanged = 0

    def index(self) -> None:
        """Returns when every document is durable or refused."""
        from sirdar.cli.source import Refusal

        for outcome in self._client.index(self._collection, self._documents()):
            found = self._under_way.popleft()
            if outcome.receipt is not None:
                self.indexed += 1
                self.unchanged += outcome.receipt.unchanged
            else:
                message = outcome.error.message if outcome.error else "no reason was given"
                self._refusals.add(Refusal(found.place, outcome.document_id, message))
            self._progress.advance(found.position, self.indexed)

    def _documents(self) -> Iterator["Document"]:
        from sirdar.cli.source import Refusal

        for item in self._source:
            if isinstance(item, Refusal):
                self._refusals.add(item)
            else:
                self._under_way.append(item)
                yield item.document

    def summary(self) -> str:
        """The last line: how many, how fast, how long, how many refused."""
        seconds = time.monotonic() - self._began
        rate = self.indexed / seconds if seconds > 0 else 0.0
        parts = [
            f"indexed {self.indexed:,} documents into {self._collection} "
            f"in {seconds:.1f} s ({rate:,.0f}/s)"
        ]
        if self.unchanged:
            parts.append(f"{self.unchanged:,} unchanged")
        parts.append(f"{self._refusals.count:,} refused")
        return ", ".join(parts)
