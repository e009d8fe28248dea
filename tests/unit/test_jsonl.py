"""Reading documents from JSON lines: good ones come out, bad ones by number, and all goes on."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sirdar.cli.jsonl import JsonLines
from sirdar.cli.source import Found, Refusal
from sirdar.client import Document

GOOD = b'{"id": "good", "text": "text"}\n'


def read(tmp_path: Path, content: bytes, **options: Any) -> list[Found | Refusal]:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(JsonLines(file, **options))


def document(item: Found | Refusal) -> Document:
    assert isinstance(item, Found)
    return item.document


def test_documents_keep_all_that_they_have(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {"a": "x", "b": ["y", "z"], "c": 1, "d": 1.5, "e": True, "f": []}
    line = {"id": "1", "title": "t", "text": "naïve 😀", "metadata": metadata}
    content = json.dumps(line).encode() + b"\n\n" + b'{"_id": "2", "text": "no end of line"}'
    first, second = read(tmp_path, content)
    assert document(first) == Document("1", "naïve 😀", "t", metadata)
    assert type(document(first).metadata["e"]) is bool
    assert document(second) == Document("2", "no end of line")
    assert (first.place, second.place) == ("line 1", "line 3")
    assert isinstance(second, Found)
    assert second.position == len(content)


def test_a_document_may_have_an_end(tmp_path: Path) -> None:
    (found,) = read(tmp_path, b'{"id": "1", "text": "t", "expires": "2026-12-01T00:00:00Z"}')
    assert document(found).expires == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "not a list"),
        (b"null", "not null"),
        (b'{"text": "t"}', "id is missing"),
        (b'{"id": "", "text": "t"}', "id is empty"),
        (b'{"id": 7, "text": "t"}', "id must be a string, not a number"),
        (b'{"id": "a", "_id": "a", "text": "t"}', "both id and _id"),
        (b'{"id": "a"}', "text is missing"),
        (b'{"id": "a", "text": " \\n"}', "text is empty"),
        (b'{"id": "a", "text": ["t"]}', "text must be a string, not a list"),
        (b'{"id": "a", "text": "t", "title": null}', "title must be a string, not null"),
        (b'{"id": "a", "text": "t\\u0000"}', "text holds a NUL"),
        (b'{"id": "a", "text": "t\\ud800"}', "surrogate pair at character 2"),
        (b'{"id": "a", "text": "t", "url": "u"}', "unknown key 'url'; put it into metadata"),
        (b'{"id": "a", "text": "t", "expires": 7}', "expires must be a time with its zone"),
        (b'{"id": "a", "text": "t", "expires": "soon"}', "expires must be a time"),
        (b'{"id": "a", "text": "t", "expires": "2026-12-01T00:00:00"}', "with its zone"),
        (b'{"id": "a", "text": "t", "metadata": []}', "metadata must be an object, not a list"),
        (b'{"id": "a", "text": "t", "metadata": {"k": null}}', "metadata.k must be"),
        (b'{"id": "a", "text": "t", "metadata": {"k": {}}}', "not an object"),
        (b'{"id": "a", "text": "t", "metadata": {"k": ["a", 1]}}', "metadata.k must be"),
        (b'{"id": "a", "text": "t", "metadata": {"k": 9223372036854775808}}', "64 bits"),
        (b'{"id": "a", "text": "t", "metadata": {"k": NaN}}', "NaN is no number"),
        (b'{"id": "a", "text": "t", "metadata": {"k": 1' + b"0" * 5000 + b"}}", "not JSON"),
        (b'{"id": "a", "text": "t", "metadata": {"\\udc00": 1}}', "a key of metadata"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_wrong_line_is_refused_by_number_and_the_rest_goes_on(
    tmp_path: Path, line: bytes, complaint: str
) -> None:
    items = read(tmp_path, GOOD + line + b"\n" + GOOD)
    assert [isinstance(item, Found) for item in items] == [True, False, True]
    refusal = items[1]
    assert isinstance(refusal, Refusal)
    assert refusal.place == "line 2"
    assert complaint in refusal.message


def test_a_refusal_names_the_document_once_its_id_is_known(tmp_path: Path) -> None:
    (item,) = read(tmp_path, b'{"id": "me", "text": 1}')
    assert isinstance(item, Refusal)
    assert item.document_id == "me"


def test_an_endless_line_is_refused_without_being_held(tmp_path: Path) -> None:
    content = GOOD + b"x" * 5_000_000 + b"\n" + GOOD + b"y" * 5_000
    items = read(tmp_path, content, max_line_bytes=1_000)
    assert [item.place for item in items if isinstance(item, Found)] == ["line 1", "line 3"]
    refused = [item for item in items if isinstance(item, Refusal)]
    assert [item.place for item in refused] == ["line 2", "line 4"]
    assert all("longer than 1,000 bytes" in item.message for item in refused)


def test_a_line_of_just_the_limit_passes(tmp_path: Path) -> None:
    line = GOOD.rstrip()
    assert len(read(tmp_path, line + b"\n" + line, max_line_bytes=len(line))) == 2
    assert isinstance(read(tmp_path, line + b"\n", max_line_bytes=len(line))[0], Found)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, b"\xef\xbb\xbf" + GOOD)[0], Found)


def test_a_pipe_has_no_known_size() -> None:
    receiving, sending = os.pipe()
    os.write(sending, GOOD)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        lines = JsonLines(pipe)
        assert lines.total_bytes is None
        assert len(list(lines)) == 1
