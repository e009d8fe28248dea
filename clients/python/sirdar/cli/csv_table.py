"""Documents out of a table of comma-separated values."""

import csv
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from sirdar.cli.source import Found, Mark, Refusal
from sirdar.cli.text_file import is_binary, marked_encoding
from sirdar.client import Document
from sirdar.errors import InvalidArgument

TEXT_COLUMNS = ("text", "content", "body")
_ID_COLUMNS = ("id", "_id")
_TITLE_COLUMN = "title"
_DELIMITERS = ",;\t|"
# As a line of JSON may have; the module's own limit is 128 KiB.
_MAX_FIELD_CHARACTERS = 32 * 2**20
_SNIFFED_BYTES = 8 * 2**10


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a row has what; the others are metadata, by name."""

    names: tuple[str, ...]
    text: int
    identity: int | None
    title: int | None
    others: tuple[tuple[str, int], ...]


class CsvTable:
    """A document a row, in UTF-8 or what a byte order mark names.

    The text is in the column `text_column`, or in the first there is of
    `text`, `content` and `body`; the id in `id`, or it is the file's name and
    the row's number; `title` is the title, and all other columns that are not
    empty become metadata, as strings: a table does not say what its numbers
    are. Raises InvalidArgument for a header without such a column.
    """

    def __init__(self, file: BinaryIO, name: str, text_column: str = "") -> None:
        self._name = name
        self._start = Mark()
        self._binary = file
        status = os.fstat(file.fileno())
        self.total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        start = file.peek(_SNIFFED_BYTES) if isinstance(file, io.BufferedReader) else b""
        if is_binary(start):
            raise InvalidArgument(f"{name} is a binary file; give a table of text")
        # A wrong byte is refused with its row and not with the table.
        self._file = io.TextIOWrapper(
            file,
            encoding=marked_encoding(start) or "utf-8",
            errors="surrogateescape",
            newline="",
        )
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        # The dialect's own line: delimiters in quotes do not matter much to a header.
        first = self._file.readline()
        delimiter = max(_DELIMITERS, key=first.count)
        self._rows = csv.reader(self._lines(first), delimiter=delimiter, strict=True)
        self._columns = self._header(text_column)

    def start_at(self, mark: Mark) -> None:
        """The next iteration passes over as many rows as the mark's number."""
        self._start = mark

    def _lines(self, first: str) -> Iterator[str]:
        yield first
        yield from self._file

    def _header(self, text_column: str) -> _Columns:
        try:
            header = [name.strip() for name in next(self._rows, [])]
        except csv.Error as error:
            raise InvalidArgument(f"the header of {self._name} is broken: {error}") from error
        if not any(header):
            raise InvalidArgument(f"{self._name} has no header; name its columns in the first line")
        repeated = next((name for name in header if name and header.count(name) > 1), None)
        if repeated is not None:
            raise InvalidArgument(f"{self._name} has two columns {repeated!r}; rename one")
        text = _position(header, [text_column] if text_column else TEXT_COLUMNS)
        if text is None:
            wanted = repr(text_column) if text_column else "text, content or body"
            raise InvalidArgument(
                f"{self._name} has no column {wanted}, but: {', '.join(header)}; "
                "name the one with the text by --text-column"
            )
        identity, title = _position(header, _ID_COLUMNS), _position(header, [_TITLE_COLUMN])
        taken = {text, identity, None if title == text else title}
        others = ((name, at) for at, name in enumerate(header) if name and at not in taken)
        return _Columns(tuple(header), text, identity, title, tuple(others))

    def __iter__(self) -> Iterator[Found | Refusal]:
        number = 0
        while True:
            place = f"{self._name}: line {self._rows.line_num + 1}"
            number += 1
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                if number > self._start.number:
                    yield Refusal(place, "", f"not CSV: {error}; correct its quotes")
                continue
            if number <= self._start.number or not any(row):
                continue
            yield self._item(row, place, number)

    def _item(self, row: Sequence[str], place: str, number: int) -> Found | Refusal:
        columns = self._columns
        identity = f"{self._name}#{number}"
        if columns.identity is not None and columns.identity < len(row):
            identity = row[columns.identity].strip()
        wrong = _wrong(columns, row, identity)
        if wrong:
            return Refusal(place, identity, wrong)
        document = Document(
            id=identity,
            text=row[columns.text],
            title="" if columns.title is None else row[columns.title].strip(),
            metadata={name: row[at] for name, at in columns.others if row[at].strip()},
        )
        # The text layer reads ahead, so this is a little more than the rows up to here.
        position = self._binary.tell() if self.total_bytes is not None else 0
        return Found(document, place, position, number)


def _position(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the first of the names stands, whatever its case."""
    lowered = [name.lower() for name in header]
    return next((lowered.index(name.lower()) for name in names if name.lower() in lowered), None)


def _wrong(columns: _Columns, row: Sequence[str], identity: str) -> str:
    """What is wrong with a row, said with the fix; empty for nothing."""
    if len(row) != len(columns.names):
        return f"has {len(row)} fields, the header {len(columns.names)}; quote what holds commas"
    if not identity:
        return f"{columns.names[columns.identity or 0]} is empty; give the document a name"
    if not row[columns.text].strip():
        return f"{columns.names[columns.text]} is empty; a document needs some text"
    joined = "".join(row)
    if "\0" in joined:
        return "holds a NUL character; remove it"
    try:
        joined.encode()
    except UnicodeEncodeError:
        return "not UTF-8; convert the file"
    return ""
