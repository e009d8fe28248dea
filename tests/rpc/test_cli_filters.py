"""Modes, filters and schemas on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sirdar.filter_text import parse_filter
from sirdar.v1 import collection_pb2, common_pb2, filter_pb2, query_pb2
from tests.rpc.search_double import Double, running_double
from tests.rpc.terminal_command import Sirdar, in_process

FIELDS = {
    "year": filter_pb2.FIELD_TYPE_INTEGER,
    "price": filter_pb2.FIELD_TYPE_FLOAT,
    "draft": filter_pb2.FIELD_TYPE_BOOLEAN,
    "written": filter_pb2.FIELD_TYPE_TIMESTAMP,
    "tags": filter_pb2.FIELD_TYPE_KEYWORD_LIST,
    "kind": filter_pb2.FIELD_TYPE_KEYWORD,
}


@pytest.fixture
def double() -> Iterator[Double]:
    with capture_logs(), running_double() as double:
        docs = collection_pb2.Collection(name="docs")
        for name, kind in FIELDS.items():
            docs.schema.add(name=name, type=kind)
        double.collections["docs"] = docs
        yield double


@pytest.fixture
def sirdar(
    double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sirdar:
    return in_process(double.address, monkeypatch, capsys)


def test_a_search_says_mode_filter_and_freshness(double: Double, sirdar: Sirdar) -> None:
    text = 'kind = "news" AND year >= 2020'
    assert sirdar("search", "q", "--mode", "lexical", "--filter", text).code == 0
    assert sirdar("search", "q", "--consistency", "strong").code == 0
    assert sirdar("search", "q", "--token", "t1", "--token", "t2").code == 0
    filtered, strong, session = double.requests
    assert filtered.mode == query_pb2.SEARCH_MODE_LEXICAL
    assert filtered.filter == parse_filter(text)
    assert not strong.HasField("filter")
    assert strong.mode == query_pb2.SEARCH_MODE_UNSPECIFIED
    assert strong.consistency == common_pb2.CONSISTENCY_STRONG
    assert session.consistency == common_pb2.CONSISTENCY_SESSION
    assert list(session.consistency_tokens) == ["t1", "t2"]


def test_what_cannot_be_asked_is_said_before_the_call(double: Double, sirdar: Sirdar) -> None:
    ended = sirdar("search", "q", "--filter", "year > ")
    assert ended.code == 1
    assert "filter is wrong at character 8: expected a date or a number" in ended.err
    ended = sirdar("search", "q", "--mode", "fuzzy")
    assert (ended.code, "dense, lexical, hybrid" in ended.err) == (1, True)
    assert sirdar("search", "q", "--consistency", "soon").code == 2
    assert not double.requests


def test_results_that_words_alone_found_are_explained(double: Double, sirdar: Sirdar) -> None:
    double.answer.results.add(document_id="w", score=0.03, lexical_score=7.25, retriever_rank=1)
    double.answer.results.add(document_id="v", score=0.02, similarity=0.625, retriever_rank=2)
    ended = sirdar("search", "q", "--explain")
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines() if "0.0300" in line or "0.0200" in line]
    assert [row[2:4] for row in rows] == [["-", "7.250"], ["0.6250", "-"]]
    first, second = json.loads(sirdar("search", "q", "--json").out)["results"]
    assert (first["similarity"], first["lexical_score"]) == (None, 7.25)
    assert (second["similarity"], second["lexical_score"]) == (0.625, None)


def test_documents_are_counted_and_deleted_by_filter(double: Double, sirdar: Sirdar) -> None:
    ended = sirdar("documents", "delete", "--filter", "year < 2000", "--dry-run")
    assert (ended.code, ended.out) == (0, "would delete 7 documents\n")
    assert sirdar("documents", "delete", "--filter", "year < 2000").out == "deleted 7 documents\n"
    assert [item.count_only for item in double.deletions] == [True, False]
    assert double.deletions[1].filter == parse_filter("year < 2000")
    assert sirdar("documents", "delete", "a", "--filter", "year < 2000").code == 2
    assert sirdar("documents", "delete", "a", "--dry-run").code == 2
    assert sirdar("documents", "delete", "--filter", "year <").code == 1
    assert len(double.deletions) == 2


def test_a_collection_is_made_with_a_schema_and_without_words(
    double: Double, sirdar: Sirdar
) -> None:
    arguments = ["--field", "year:integer", "--field", "a:b:text", "--no-lexical"]
    made = sirdar("collections", "create", "made", *arguments, "--index-kind", "flat")
    assert made.code == 0, made.err
    collection = double.collections["made"]
    assert {item.name: item.type for item in collection.schema} == {
        "year": filter_pb2.FIELD_TYPE_INTEGER,
        "a:b": filter_pb2.FIELD_TYPE_TEXT,
    }
    assert collection.lexical.HasField("enabled")
    assert not collection.lexical.enabled
    assert collection.generation.index_kind == "flat"
    assert sirdar("collections", "create", "x", "--language", "de").code == 0
    assert double.collections["x"].lexical.language == "de"
    assert double.collections["x"].lexical.enabled
    assert sirdar("collections", "create", "y", "--field", "year").code == 2
    ended = sirdar("collections", "create", "y", "--field", "year:int")
    assert (ended.code, "keyword, keyword_list, integer" in ended.err) == (1, True)


def test_fields_are_added_to_a_schema_and_shown(double: Double, sirdar: Sirdar) -> None:
    docs = double.collections["docs"]
    docs.lexical.enabled = True
    docs.lexical.language = "en"
    docs.index_explanation = "hnsw: 12,000 vectors a segment"
    assert sirdar("collections", "update", "docs", "--field", "author:keyword").code == 0
    assert [item.name for item in docs.schema] == [*FIELDS, "author"]
    shown = sirdar("collections", "show", "docs").out
    assert "year:integer, price:float" in shown
    assert "author:keyword" in shown
    assert "indexed, language en" in shown
    assert "hnsw: 12,000 vectors a segment" in shown
    as_json = json.loads(sirdar("collections", "show", "docs", "--json").out)
    assert as_json["schema"]["author"] == "keyword"
    assert as_json["lexical"] == {"enabled": True, "language": "en"}


def test_metadata_of_files_takes_the_types_of_the_schema(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "id,text,year,price,draft,written,tags,kind,other\n"
        'a,words,2020,1.5,TRUE,2025-01-01,"x, y",7,8\n'
        "b,words,twenty,,,,,,\n"
        "c,words,,,,yesterday,,,\n"
    )
    ended = sirdar("index", table)
    assert ended.code == 1
    assert "metadata.year: 'twenty' is no integer" in ended.err
    assert "metadata.written: 'yesterday' is no date or time" in ended.err
    stored = double.documents["docs", "a"].document.metadata
    assert stored["year"].int64_value == 2020
    assert stored["price"].double_value == 1.5
    assert stored["draft"].bool_value
    assert stored["written"].timestamp_value.ToJsonString() == "2025-01-01T00:00:00Z"
    assert list(stored["tags"].string_list.values) == ["x", "y"]
    assert (stored["kind"].string_value, stored["other"].string_value) == ("7", "8")
    lines = tmp_path / "l.jsonl"
    metadata = {"written": "2025-01-01T12:00:00+02:00", "year": 3, "tags": ["p, q"], "price": 1}
    lines.write_text(json.dumps({"id": "d", "text": "words", "metadata": metadata}))
    assert sirdar("index", lines).code == 0
    stored = double.documents["docs", "d"].document.metadata
    assert stored["written"].timestamp_value.ToJsonString() == "2025-01-01T10:00:00Z"
    assert (stored["year"].int64_value, stored["price"].int64_value) == (3, 1)
    assert list(stored["tags"].string_list.values) == ["p, q"]
