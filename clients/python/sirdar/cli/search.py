"""The command `sirdar search`."""

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import Connection
from sirdar.cli.snippet import bracketed, excerpt, styled
from sirdar.cli.terminal import explained, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from sirdar.client import Consistency, SearchResult, SearchResults
    from sirdar.client.options import SearchOptions

# Below this many columns title and snippet stand under each other.
_WIDE = 100
_SNIPPET_CHARACTERS = {True: 240, False: 160}


def search(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(help="What to look for, in your own words.", show_default=False)
    ] = "",
    collection: Annotated[str, typer.Option(help="Where to look.")] = "docs",
    top_k: Annotated[int, typer.Option(help="How many documents.")] = 10,
    mode: Annotated[
        str,
        typer.Option(
            help="dense (by meaning), lexical (by words) or hybrid (both).",
            show_default="as the server is set",
        ),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Only documents whose metadata meet it: "
            """'category = "news" AND date >= 2025-01-01'.""",
        ),
    ] = "",
    consistency: Annotated[
        str,
        typer.Option(
            help="eventual, strong (all that was written before) or session (the --token's writes)."
        ),
    ] = "eventual",
    token: Annotated[
        list[str] | None,
        typer.Option(help="Consistency token of a write to see; repeatable."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every passage: slower, misses nothing.")
    ] = False,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Let the cross-encoder order the best passages.",
            show_default="as the collection does",
        ),
    ] = None,
    highlight: Annotated[
        bool | None,
        typer.Option(
            "--highlight/--no-highlight",
            help="Mark the sentences that matter.",
            show_default="on a terminal",
        ),
    ] = None,
    color: Annotated[
        bool, typer.Option("--color/--no-color", help="Without: «marks»; so does NO_COLOR.")
    ] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show scores, ranks and times of each stage.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Search as you type; Esc leaves.")
    ] = False,
) -> None:
    """Show the documents that mean what the query means."""
    connection: Connection = context.obj
    options: SearchOptions = {
        "top_k": top_k,
        "exact": exact,
        "highlight": sys.stdout.isatty() if highlight is None else highlight,
        "consistency": _consistency(consistency, token or []),
        "tokens": token or [],
    }
    if rerank is not None:
        from sirdar.client import RerankSettings

        options["rerank"] = RerankSettings(enabled=rerank)
    if mode:
        options["mode"] = mode
    if condition:
        options["filter"] = condition
    if interactive:
        _search_as_you_type(connection, collection, query, options)
        return
    if not query:
        raise typer.BadParameter("say what to look for, or use -i", param_hint="QUERY")
    with explained(connection), connection.open() as client:
        results = client.search(collection, query, **options)
    if as_json:
        print(to_json(results))
    else:
        _show(results, color=color, explain=explain)


def _consistency(given: str, tokens: list[str]) -> "Consistency":
    from sirdar.client import Consistency

    if tokens and given == "eventual":
        return Consistency.SESSION
    try:
        return Consistency(given)
    except ValueError:
        raise typer.BadParameter(
            "must be eventual, session or strong", param_hint="--consistency"
        ) from None


def _search_as_you_type(
    connection: Connection, collection: str, query: str, options: "SearchOptions"
) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("needs a terminal", param_hint="-i")
    from sirdar.cli.interactive import search_as_you_type

    with explained(connection):
        search_as_you_type(connection, collection, query, options)


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


def _show(results: "SearchResults", *, color: bool, explain: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from sirdar.cli.explain import show_explanation

    plain = not color or bool(os.environ.get("NO_COLOR"))
    # Without a colour system there is no bold either: nothing but the text.
    console = Console(highlight=False, color_system=None) if plain else Console(highlight=False)
    if len(results):
        wide = console.width >= _WIDE
        console.print(results_table(results, wide=wide, styles=console.color_system is not None))
    else:
        console.print("Nothing found.")
    console.print(Text(footer(results), style="dim"))
    if explain:
        show_explanation(console, results)
        return
    for item in results.degraded:
        console.print(Text(f"degraded: {one_line(item.detail)}", style="yellow"))


def results_table(results: "SearchResults", *, wide: bool, styles: bool = True) -> "Table":
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
        name, snippet = _name(result), _snippet(result, _SNIPPET_CHARACTERS[wide], styles=styles)
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


def _snippet(result: "SearchResult", characters: int, *, styles: bool) -> "RenderableType":
    from rich.text import Text

    parts = excerpt(result.snippet, characters)
    return styled(parts) if styles else Text(bracketed(parts))


def footer(results: "SearchResults") -> str:
    """Stage times, coverage and model on one line."""
    times = " · ".join(
        f"{timing.stage} {_milliseconds(timing.duration)}" for timing in results.timings
    )
    coverage = results.coverage
    shards = f"{coverage.shards_answered}/{coverage.shards_asked} shards"
    return " · ".join(part for part in (times, shards, one_line(results.space.model.name)) if part)


def _milliseconds(duration: timedelta) -> str:
    value = duration.total_seconds() * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
