"""`sirdar search`: marked sentences, explanations, and searching as one types."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from structlog.testing import capture_logs

from sirdar.cli.connection import Connection
from sirdar.cli.interactive import InteractiveSearch
from sirdar.cli.snippet import bracketed, excerpt
from sirdar.client import Client, Document, Snippet, Span
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2
from tests.rpc.search_double import Double, running_double
from tests.rpc.terminal_command import Sirdar, in_process


@pytest.fixture
def double() -> Iterator[Double]:
    with capture_logs(), running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(name="docs")
        first = double.answer.results.add(document_id="tide", score=1.25, similarity=0.5)
        first.title = "Tides"
        first.snippet.text = "The sea is wide.\nThe moon pulls it. Ships sail."
        first.snippet.highlights.add(start=17, end=35)
        first.rerank_score = 2.5
        first.retriever_rank = 3
        double.answer.results.add(document_id="bread", score=0.5, retriever_rank=1)
        double.answer.timings.add(stage=3).duration.FromMilliseconds(12)
        double.answer.timings.add(stage=4).duration.FromMilliseconds(20)
        double.answer.coverage.shards_asked = 4
        double.answer.coverage.shards_answered = 3
        double.answer.coverage.missing_shards.append(2)
        double.answer.degraded.add(reason=1, detail="shard 2 did not answer")
        double.answer.space.model.name = "package:mini"
        yield double


@pytest.fixture
def sirdar(
    double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sirdar:
    return in_process(double.address, monkeypatch, capsys)


def test_marks_are_asked_for_and_seen_where_there_are_no_styles(
    double: Double, sirdar: Sirdar
) -> None:
    marked = sirdar("search", "why tides", "--highlight", "--no-color")
    assert "«The moon pulls it.»" in marked.out
    assert "\x1b" not in marked.out
    sirdar("search", "why tides")
    assert [request.highlight for request in double.requests] == [True, False]


def test_on_a_terminal_marks_are_styled_unless_no_color_is_set(
    sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    styled = sirdar("search", "why tides", "--highlight").out
    assert "\x1b[1;7mThe moon pulls it.\x1b[0m" in styled
    assert "«" not in styled
    monkeypatch.setenv("NO_COLOR", "1")
    assert "«The moon pulls it.»" in sirdar("search", "why tides", "--highlight").out


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_an_explanation_fits_the_terminal_and_says_all(
    sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    ended = sirdar("search", "q", "--explain", "--highlight")
    assert max(map(len, ended.out.splitlines())) <= columns
    words = " ".join(ended.out.split())
    for word in ("1.2500", "2.500", "3 ↑2", "1 ↓1", "12.0", "missing 2", "shard_unreachable"):
        assert word in words
    assert "reranked: 1 of 2 results" in words
    assert "\x1b" not in ended.out


def test_reranking_is_the_collections_choice_unless_given(double: Double, sirdar: Sirdar) -> None:
    for flags in ((), ("--rerank",), ("--no-rerank",)):
        assert sirdar("search", "q", *flags).code == 0
    asked = [
        request.rerank.enabled if request.HasField("rerank") else None
        for request in double.requests
    ]
    assert asked == [None, True, False]


def test_what_results_are_is_asked_for(double: Double, sirdar: Sirdar) -> None:
    double.collections["mail"] = collection_pb2.Collection(name="mail")
    shape = [
        "--passages",
        "--group-by",
        "kind",
        "--group-limit",
        "2",
        "--diversify",
        "0.5",
        "--min-score",
        "0.25",
    ]
    sirdar("search", "q", *shape, "--offset", "10", "--explain")
    sirdar("search", "--like", "tide", "--collection", "docs", "--collection", "mail")
    first, second = double.requests
    assert (first.unit, first.offset, first.explain) == (2, 10, True)
    assert (first.group.field, first.group.limit) == ("kind", 2)
    assert (first.diversify.relevance, first.threshold.score) == (0.5, 0.25)
    assert (first.collection, list(first.collections)) == ("docs", [])
    assert list(second.collections) == ["docs", "mail"]
    assert (second.like.document_id, second.query) == ("tide", "")


def test_an_explanation_says_what_each_stage_made_of_it(double: Double, sirdar: Sirdar) -> None:
    first = double.answer.results[0]
    first.collection = "docs"
    first.group.string_value = "sea"
    first.explanation.stages.add(stage="fuse", rank=2, score=0.5, detail="dense 2, lexical 1")
    shown = sirdar("search", "q", "--explain").out
    assert "fuse: 2, 0.5000" in shown
    assert "dense 2, lexical 1" in shown
    assert "docs · group sea" in shown


def test_json_has_scores_and_marks(sirdar: Sirdar) -> None:
    first, second = json.loads(sirdar("search", "q", "--json").out)["results"]
    assert first["snippet"]["highlights"] == [{"start": 17, "end": 35}]
    assert (first["rerank_score"], second["rerank_score"]) == (2.5, None)


def test_typing_needs_a_terminal_and_searching_a_query(sirdar: Sirdar) -> None:
    assert sirdar("search", "-i").code == 2
    assert sirdar("search").code == 2


def snippet(text: str, *marked: str) -> Snippet:
    spans = [Span(text.index(part), text.index(part) + len(part)) for part in marked]
    return Snippet(text, 0, len(text), 0, tuple(spans))


def test_an_excerpt_shows_the_best_sentence() -> None:
    text = "Much before it. " * 30 + "The best sentence. " + "Much after it. " * 30
    shown = bracketed(excerpt(snippet(text, "The best sentence."), 160))
    assert "«The best sentence.»" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) <= 170


def test_an_excerpt_is_one_line_without_controls_and_keeps_its_marks() -> None:
    shown = bracketed(excerpt(snippet("\n a \x1b[31m\t b.\n\n 😀 c.  d\n", "b.", "😀 c."), 100))
    assert shown == "a \N{REPLACEMENT CHARACTER}[31m «b.» «😀 c.» d"


@pytest.mark.parametrize("span", [Span(-5, 3), Span(2, 10_000), Span(50, 60), Span(3, 3)])
def test_spans_outside_the_text_do_no_harm(span: Span) -> None:
    parts = excerpt(Snippet("short text", 0, 10, 0, (span,)), 100)
    assert "".join(part.text for part in parts) == "short text"


def test_a_passage_without_spaces_is_cut() -> None:
    assert bracketed(excerpt(snippet("x" * 500), 100)) == "x" * 100 + " …"


@asynccontextmanager
async def typing(double: Double) -> AsyncIterator[tuple[InteractiveSearch, PipeInput]]:
    """A session with a keyboard of ours; Esc must end it."""
    connection = Connection(double.address, "", 5.0)
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        async with connection.open_async() as client:
            session = InteractiveSearch(client, connection, "docs", "", {"highlight": True})
            running = asyncio.create_task(session.run())
            yield session, keyboard
            keyboard.send_text("\x1b")
            await asyncio.wait_for(running, 10)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_results_follow_what_is_typed(double: Double) -> None:
    async with typing(double) as (session, keyboard):
        for letter in "tides":
            keyboard.send_text(letter)
            await asyncio.sleep(0)
        await until(lambda: session.screen.results)
        assert (
            "2 documents in 20 ms" in session.screen.status or "degraded" in session.screen.status
        )
    assert [request.query for request in double.requests] == ["tides"]
    assert double.requests[0].highlight


async def test_a_result_is_chosen_shown_and_left(double: Double) -> None:
    with Client(double.address) as client:
        list(client.index("docs", [Document("bread", "Let it rest.\x1b[2J\nThen bake.", "Bread")]))
    async with typing(double) as (session, keyboard):
        keyboard.send_text("dough")
        await until(lambda: session.screen.results)
        keyboard.send_text("\x1b[B")
        await until(lambda: session.screen.chosen == 1)
        keyboard.send_text("\x1b[B\r")
        await until(lambda: session.screen.document)
        assert session.screen.document[0] == "Bread"
        assert "\x1b" not in "".join(session.screen.document)
        keyboard.send_text("x\x1b[B")
        await until(lambda: session.screen.first_line == 1)
        assert session.buffer.text == "dough"
        keyboard.send_text("\x1b")
        await until(lambda: not session.screen.document)


async def test_a_long_paragraph_is_scrolled_by_lines_of_the_screen(double: Double) -> None:
    with Client(double.address) as client:
        list(client.index("docs", [Document("tide", "many words " * 200 + "end")]))
    async with typing(double) as (session, keyboard):
        keyboard.send_text("q")
        await until(lambda: session.screen.results)
        keyboard.send_text("\r")
        await until(lambda: session.screen.document)
        assert max(map(len, session.screen.document)) <= 80
        assert session.screen.document[-1].endswith("end")
        keyboard.send_text("\x1b")
        await until(lambda: not session.screen.document)


async def test_an_error_is_shown_and_the_next_letter_asks_again(double: Double) -> None:
    async with typing(double) as (session, keyboard):
        double.refusals.append(InvalidArgument.field("query", "is not liked"))
        keyboard.send_text("a")
        await until(lambda: "is not liked" in session.screen.status)
        keyboard.send_text("b")
        await until(lambda: session.screen.results)
