"""The command `sirdar search`."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.terminal import explained, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from sirdar.client import SearchResult, SearchResults

# Below this many columns title and snippet stand under each other.
_WIDE = 100
_SNIPPET_CHARACTERS = {True: 240, False: 160}


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    collection: Annotated[str, typer.Option(help="Where to look.")] = "docs",
    top_k: Annotated[int, typer.Option(help="How many documents.")] = 10,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every passage: slower, misses nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Show the documents that mean what the query means."""
    connection: Connection = context.obj
    with explained(connection), connection.open() as client:
        results = client.search(collection, query, top_k=top_k, exact=exact)
    if as_json:
        print(to_json(results))
    else:
        _show(results)


def to_json(results: "SearchResults") -> str:
    """The whole answer; durations in milliseconds, times as ISO 8601."""
    answer = {
        "results": [asdict(result) for result in results],
        "timings_ms": {
            timing.stage: round(timing.duration.total_seconds() * 1000, 3)
            for timing in results.timings
        },
        "space": asdict(results.space),
        "coverage": asdict(results.coverage),
        "degraded": [asdict(item) for item in results.degraded],
    }
    return json.dumps(answer, ensure_ascii=False, indent=2, default=datetime.isoformat)


def _show(results: "SearchResults") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if len(results):
        console.print(results_table(results, wide=console.width >= _WIDE))
    else:
        console.print("Nothing found: the collection is empty.")
    console.print(Text(footer(results), style="dim"))
    for item in results.degraded:
        console.print(Text(f"degraded: {one_line(item.detail)}", style="yellow"))


def results_table(results: "SearchResults", *, wide: bool) -> "Table":
    """Rank, score, document and snippet; in a narrow table the last two share a column."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, expand=wide)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("document", overflow="fold", ratio=2 if wide else None)
    if wide:
        table.add_column("passage", overflow="fold", ratio=5)
    for rank, result in enumerate(results, 1):
        cells = (str(rank), f"{result.score:.3f}")
        name, snippet = _name(result), _snippet(result, _SNIPPET_CHARACTERS[wide])
        table.add_row(*cells, *([name, snippet] if wide else [Group(name, snippet)]))
        if rank < len(results):
            table.add_row()
    return table


def _name(result: "SearchResult") -> "RenderableType":
    from rich.text import Text

    title, document_id = one_line(result.title), one_line(result.document_id)
    text = Text(title or document_id, style="bold")
    if title and title != document_id:
        text.append(f"\n{document_id}", style="not bold dim")
    return text


def _snippet(result: "SearchResult", characters: int) -> "RenderableType":
    from rich.text import Text

    snippet = one_line(result.snippet.text)
    if len(snippet) > characters:
        snippet = snippet[:characters].rsplit(" ", 1)[0] + " …"
    return Text(snippet)


def footer(results: "SearchResults") -> str:
    """Stage times, coverage and model on one line."""
    times = " · ".join(
        f"{timing.stage} {timing.duration.total_seconds() * 1000:.1f} ms"
        for timing in results.timings
    )
    coverage = results.coverage
    shards = f"{coverage.shards_answered}/{coverage.shards_asked} shards"
    return " · ".join(part for part in (times, shards, one_line(results.space.model.name)) if part)
