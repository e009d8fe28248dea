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
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Where to look; repeatable.", show_default="docs"),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many documents, or groups.")] = 10,
    offset: Annotated[int, typer.Option(help="How many of the best to leave out.")] = 0,
    like: Annotated[
        str, typer.Option(help="Instead of a query: the id of a document to find others like.")
    ] = "",
    passages: Annotated[
        bool, typer.Option("--passages", help="Each passage for itself, not the best of each.")
    ] = False,
    group_by: Annotated[str, typer.Option(help="Group by this metadata field.")] = "",
    group_limit: Annotated[int, typer.Option(help="The most results a group.")] = 1,
    diversify: Annotated[
        float | None,
        typer.Option(
            help="Prefer what differs: from 0, only different, to 1, only relevant.",
            show_default="not",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Leave out what scores less.", show_default="nothing is left out"),
    ] = None,
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
        "offset": offset,
        "explain": explain,
    }
    if rerank is not None:
        from sirdar.client import RerankSettings

        options["rerank"] = RerankSettings(enabled=rerank)
    if mode:
        options["mode"] = mode
    if condition:
        options["filter"] = condition
    if like:
        options["like"] = like
    options |= _shape(passages, group_by, group_limit, diversify, min_score)
    places = collection or ["docs"]
    if interactive:
        _search_as_you_type(connection, places, query, options)
        return
    if not query and not like:
        raise typer.BadParameter("say what to look for, or use -i", param_hint="QUERY")
    with explained(connection), connection.open() as client:
        results = client.search(places[0] if len(places) == 1 else places, query, **options)
    if as_json:
        print(to_json(results))
    else:
        _show(results, color=color, explain=explain)


def _shape(
    passages: bool,
    group_by: str,
    group_limit: int,
    diversify: float | None,
    min_score: float | None,
) -> "SearchOptions":
    from sirdar.client import Diversity, Grouping, SearchUnit, Threshold

    shape: SearchOptions = {}
    if passages:
        shape["unit"] = SearchUnit.PASSAGES
    if group_by:
        shape["group"] = Grouping(group_by, group_limit)
    if diversify is not None:
        shape["diversify"] = Diversity(diversify)
    if min_score is not None:
        shape["threshold"] = Threshold(score=min_score)
    return shape


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
    connection: Connection, collections: list[str], query: str, options: "SearchOptions"
) -> None:
    if len(collections) > 1:
        raise typer.BadParameter("-i searches one", param_hint="--collection")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("needs a terminal", param_hint="-i")
    from sirdar.cli.interactive import search_as_you_type

    with explained(connection):
        search_as_you_type(connection, collections[0], query, options)


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
        "pool": results.pool,
        "collections": [asdict(item) for item in results.collections],
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
    beside = [result.collection] if result.collection else []
    if result.group is not None:
        beside.append(f"group {result.group}")
    if beside:
        text.append(f"\n{one_line(' · '.join(beside))}", style="not bold dim")
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
