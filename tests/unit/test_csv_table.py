"""Reading documents from tables."""

from pathlib import Path

import pytest

from sirdar.cli.csv_table import CsvTable
from sirdar.cli.source import Found, Mark, Refusal
from sirdar.client import Document
from sirdar.errors import InvalidArgument


def read(
    tmp_path: Path, content: bytes, column: str = "", start: Mark | None = None
) -> list[Found | Refusal]:
    path = tmp_path / "notes.csv"
    path.write_bytes(content)
    with path.open("rb") as file:
        table = CsvTable(file, path.name, column)
        if start is not None:
            table.start_at(start)
        return list(table)


def documents(items: list[Found | Refusal]) -> list[Document]:
    return [item.document for item in items if isinstance(item, Found)]


def test_columns_become_id_title_text_and_metadata(tmp_path: Path) -> None:
    content = '\ufeffID,Title,Body,year,note\n7,The sea,"a ""quoted"",\r\nlong text",2026,\n\n'
    (found,) = read(tmp_path, content.encode())
    assert isinstance(found, Found)
    assert found.document == Document("7", 'a "quoted",\r\nlong text', "The sea", {"year": "2026"})
    assert found.place == "notes.csv: line 2"


def test_without_an_id_the_row_gives_it(tmp_path: Path) -> None:
    items = read(tmp_path, b"content\nfirst\nsecond\n")
    assert [item.id for item in documents(items)] == ["notes.csv#1", "notes.csv#2"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_seen(tmp_path: Path, delimiter: str) -> None:
    content = f"id{delimiter}text\n1{delimiter}a, b\n"
    assert documents(read(tmp_path, content.encode())) == [Document("1", "a, b")]


def test_other_encodings_are_read_by_their_mark(tmp_path: Path) -> None:
    assert documents(read(tmp_path, "id,text\n1,naïve\n".encode("utf-16")))[0].text == "naïve"


def test_the_text_column_can_be_named(tmp_path: Path) -> None:
    content = b"id,text,abstract\n1,x,y\n"
    assert documents(read(tmp_path, content, "abstract")) == [Document("1", "y", "", {"text": "x"})]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,summary\n1,x\n", ["text, content or body", "id, summary", "--text-column"]),
        (b"", ["no header"]),
        (b"text,a,a\n", ["two columns 'a'", "rename"]),
        (b"id,text\0\n", ["binary"]),
        (b'"text\n', ["header", "broken"]),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_whole(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(tmp_path, content)
    for word in words:
        assert word in caught.value.message


def test_bad_rows_are_refused_by_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    content = b'id,text\n1,a,b\n2\n3, \n,x\n4,\xff\n5,"x"y\n6,good\n'
    items = read(tmp_path, content)
    refusals = [item for item in items if isinstance(item, Refusal)]
    assert [item.place for item in refusals] == [f"notes.csv: line {n}" for n in range(2, 8)]
    for refusal, word in zip(
        refusals,
        ["3 fields, the header 2", "1 fields", "text is empty", "id is empty", "UTF-8", "quotes"],
        strict=True,
    ):
        assert word in refusal.message
    assert documents(items) == [Document("6", "good")]


def test_a_field_may_have_megabytes(tmp_path: Path) -> None:
    assert len(documents(read(tmp_path, b"text\n" + b"x" * 2**21))[0].text) == 2**21


def test_it_goes_on_behind_a_mark(tmp_path: Path) -> None:
    content = b'text\na\n"b\nb"\nbroken,row\nc\nd\n'
    whole = documents(read(tmp_path, content))
    assert documents(read(tmp_path, content, start=Mark(0, 3))) == whole[2:]
