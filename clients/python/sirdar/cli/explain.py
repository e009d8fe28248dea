"""How an answer came about: `sirdar search --explain`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sirdar.cli.terminal import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sirdar.client import SearchResult, SearchResults

_BAR_CHARACTERS = 24
# Below this many columns each result's scores are lines instead of a row.
_WIDE = 72


def show_explanation(console: "Console", results: "SearchResults") -> None:
    """Scores and ranks of each result, then the stages' times, coverage and what is missing."""
    console.print()
    wide = console.width >= _WIDE
    if wide:
        console.print(_scores(results))
    else:
        for line in _score_lines(results):
            console.print(line, markup=False)
    console.print()
    for line in _stage_lines(results):
        console.print(line, markup=False)
    console.print()
    console.print(_times(results, wide=wide))
    console.print()
    for line in _facts(results):
        console.print(line, markup=False)


def _scores(results: "SearchResults") -> "Table":
    table = _table()
    for header in ("#", "score", "similarity", "words", "rank before", "reranker", "passages"):
        table.add_column(header, justify="right")
    table.add_column("document", overflow="fold")
    for rank, result in enumerate(results, 1):
        table.add_row(
            str(rank),
            f"{result.score:.4f}",
            _score(result.similarity, 4),
            _score(result.lexical_score, 3),
            _before(result, rank),
            _score(result.rerank_score, 3),
            str(result.matched_passages),
            one_line(result.document_id),
        )
    return table


def _stage_lines(results: "SearchResults") -> Iterator[str]:
    """What each stage made of each result; a gateway that is older does not say."""
    for rank, result in enumerate(results, 1):
        if result.explanation:
            yield f"{rank} {one_line(result.document_id)}"
        for stage in result.explanation:
            yield f"  {stage.stage}: {stage.rank}, {stage.score:.4f}"
            yield f"    {one_line(stage.detail)}"


def _score_lines(results: "SearchResults") -> Iterator[str]:
    for rank, result in enumerate(results, 1):
        yield f"{rank} {one_line(result.document_id)}"
        yield f"  score {result.score:.4f}, reranker {_score(result.rerank_score, 3)}"
        similarity, words = _score(result.similarity, 4), _score(result.lexical_score, 3)
        yield f"  similarity {similarity}, words {words}"
        yield f"  rank before {_before(result, rank)}"


def _score(score: float | None, digits: int) -> str:
    return "-" if score is None else f"{score:.{digits}f}"


def _before(result: "SearchResult", rank: int) -> str:
    """The place before reranking, and how far the reranker moved it."""
    if not result.retriever_rank:
        return "-"
    moved = result.retriever_rank - rank
    arrow = f" ↑{moved}" if moved > 0 else f" ↓{-moved}" if moved < 0 else ""
    return f"{result.retriever_rank}{arrow}"


def _times(results: "SearchResults", *, wide: bool) -> "Table":
    table = _table()
    table.add_column("stage")
    table.add_column("ms", justify="right")
    if wide:
        table.add_column("")
    longest = max((timing.duration.total_seconds() for timing in results.timings), default=0.0)
    for timing in results.timings:
        seconds = timing.duration.total_seconds()
        bar = "█" * round(_BAR_CHARACTERS * seconds / longest) if longest else ""
        table.add_row(timing.stage, f"{seconds * 1000:.1f}", *([bar] if wide else []))
    return table


def _facts(results: "SearchResults") -> list[str]:
    coverage = results.coverage
    missing = ", ".join(map(str, coverage.missing_shards))
    shards = f"shards: {coverage.shards_answered} of {coverage.shards_asked} answered"
    reranked = sum(result.rerank_score is not None for result in results)
    space = results.space
    return [
        shards + (f", missing {missing}" if missing else ""),
        f"writes not yet shown: {coverage.pending_writes:,}",
        f"reranked: {reranked} of {len(results)} results",
        f"space: {one_line(space.model.name)}, {space.dimensions} dimensions, "
        f"fingerprint {one_line(space.fingerprint)[:16]}",
        *(f"degraded: {item.reason}: {one_line(item.detail)}" for item in results.degraded),
        *([] if results.degraded else ["degraded: nothing"]),
    ]


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
