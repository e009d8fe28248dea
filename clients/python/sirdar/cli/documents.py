"""The commands `sirdar documents list|get|delete`."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained, one_line, printable

if TYPE_CHECKING:
    from sirdar.client import StoredDocument

documents = typer.Typer(no_args_is_help=True, help="List, show and delete documents.")

Where = Annotated[str, typer.Option("--collection", help="Where they are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@documents.command("list")
def list_all(
    context: typer.Context,
    collection: Where = "docs",
    limit: Annotated[int, typer.Option(min=1, help="At most as many.")] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines, which `sirdar index` reads.")
    ] = False,
) -> None:
    """Show documents in the order of their ids."""
    connection: Connection = context.obj
    with explained(connection), connection.open() as client:
        listed = client.list_documents(collection, page_size=min(limit, 100))
        shown = 0
        for stored in islice(listed, limit):
            print(_json_line(stored) if as_json else _line(stored))
            shown += 1
        more = next(listed, None) is not None
    if not shown:
        print(f"{collection} has no documents.", file=sys.stderr)
    elif more:
        print(f"There are more than {limit:,}: ask for them with --limit.", file=sys.stderr)


@documents.command()
def get(
    context: typer.Context,
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The document's id.")],
    collection: Where = "docs",
    as_json: AsJson = False,
) -> None:
    """Show one document whole."""
    connection: Connection = context.obj
    with explained(connection), connection.open() as client:
        stored = client.get_document(collection, document_id)
    if as_json:
        print(json.dumps(asdict(stored), ensure_ascii=False, indent=2, default=datetime.isoformat))
        return
    document, receipt = stored.document, stored.receipt
    print(f"id        {one_line(document.id)}")
    if document.title:
        print(f"title     {one_line(document.title)}")
    for key, value in document.metadata.items():
        print(f"metadata  {one_line(key)}: {one_line(str(value))}")
    if document.expires is not None:
        print(f"expires   {document.expires.isoformat()}")
    written = f"{receipt.written:%Y-%m-%d %H:%M:%S} UTC"
    print(f"version   {receipt.version}, {receipt.passages} passages, written {written}")
    print()
    print(printable(document.text))


@documents.command()
def delete(
    context: typer.Context,
    document_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="The documents' ids.")
    ] = None,
    collection: Where = "docs",
    ids_from: Annotated[
        Path | None, typer.Option(help="A file with an id a line; - for standard input.")
    ] = None,
    condition: Annotated[
        str,
        typer.Option("--filter", help="All whose metadata meet it: 'date < 2020-01-01'."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what the filter would delete.")
    ] = False,
) -> None:
    """Delete documents by id, or by a filter; exit code 1 if an id was not there."""
    ids = [*(document_ids or []), *(_lines(ids_from) if ids_from else [])]
    if bool(ids) == bool(condition):
        raise typer.BadParameter("give ids, --ids-from or --filter", param_hint="ID...")
    if dry_run and not condition:
        raise typer.BadParameter("goes with --filter", param_hint="--dry-run")
    connection: Connection = context.obj
    if condition:
        with explained(connection), connection.open() as client:
            met = client.delete_by_filter(collection, condition, count_only=dry_run)
        print(f"{'would delete' if dry_run else 'deleted'} {met.documents:,} documents")
        return
    with explained(connection), connection.open() as client:
        outcomes = client.delete_documents(collection, ids)
    deleted = 0
    for outcome in outcomes:
        if outcome.error is not None:
            reason = one_line(outcome.error.message)
            print(f"refused: {one_line(outcome.document_id)}: {reason}", file=sys.stderr)
        elif outcome.existed:
            deleted += 1
        else:
            print(f"not there: {one_line(outcome.document_id)}", file=sys.stderr)
    print(f"deleted {deleted:,} of {len(ids):,} documents")
    if deleted < len(ids):
        raise typer.Exit(1)


def _lines(path: Path) -> list[str]:
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def _line(stored: "StoredDocument") -> str:
    document = stored.document
    title = f"  {one_line(document.title)}" if document.title else ""
    return f"{one_line(document.id)}{title}  ({len(document.text):,} characters)"


def _json_line(stored: "StoredDocument") -> str:
    """As `sirdar index` reads it; times as ISO 8601 strings."""
    return json.dumps(asdict(stored.document), ensure_ascii=False, default=datetime.isoformat)
