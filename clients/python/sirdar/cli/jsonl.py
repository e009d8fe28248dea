"""Documents out of a file with one JSON object a line."""

import json
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO

from sirdar.cli.source import Found, Mark, Refusal
from sirdar.client import Document, MetadataValue

# A document may have a few MB; every character of it may be an escape of six bytes.
MAX_LINE_BYTES = 32 * 2**20

_KEYS = ("id", "_id", "title", "text", "metadata", "expires")


class _WrongLine(Exception):
    """What is wrong with a line, said with the fix."""


class JsonLines:
    """Reads `{"id": ..., "title": ..., "text": ..., "metadata": {...}}`, a line at a time,
    and `"expires": "2026-12-01T00:00:00Z"` where the document is to be deleted by itself.

    `_id` is taken for `id`, as in BEIR's data sets. A line that is wrong is
    refused by its number, behind the `name` of the file, and the rest goes on. A longer line than
    `max_line_bytes` is passed over without being held in memory.
    """

    def __init__(
        self, file: BinaryIO, max_line_bytes: int = MAX_LINE_BYTES, name: str = ""
    ) -> None:
        self._file = file
        self._prefix = f"{name}: " if name else ""
        self._start = Mark()
        self._max_line_bytes = max_line_bytes
        status = os.fstat(file.fileno())
        self.total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None

    def start_at(self, mark: Mark) -> None:
        """The next iteration begins behind the mark, which needs a file that can be sought."""
        self._file.seek(mark.position)
        self._start = mark

    def __iter__(self) -> Iterator[Found | Refusal]:
        number, position = self._start.number, self._start.position
        while line := self._file.readline(self._max_line_bytes + 1):
            number += 1
            position += len(line)
            place = f"{self._prefix}line {number}"
            if len(line) > self._max_line_bytes and not line.endswith(b"\n"):
                position += self._skip_line()
                limit = f"{self._max_line_bytes:,} bytes"
                yield Refusal(place, "", f"the line is longer than {limit}; split the document")
                continue
            if not line.strip():
                continue
            identity = ""
            try:
                fields = _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                identity = _identity(fields)
                yield Found(_document(identity, fields), place, position, number)
            except _WrongLine as error:
                yield Refusal(place, identity, str(error))

    def _skip_line(self) -> int:
        """Reads to the end of a line; returns the number of bytes."""
        skipped = 0
        while chunk := self._file.readline(2**20):
            skipped += len(chunk)
            if chunk.endswith(b"\n"):
                break
        return skipped


def _parse(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _WrongLine(f"not UTF-8 at byte {error.start + 1}; convert the file") from error
    except json.JSONDecodeError as error:
        raise _WrongLine(f"not JSON: {error.msg} at character {error.colno}") from error
    except RecursionError as error:
        raise _WrongLine("nested too deep; metadata values are not objects") from error
    except ValueError as error:
        # An integer of thousands of digits.
        raise _WrongLine(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _WrongLine(
            f'must be an object such as {{"id": "1", "text": "..."}}, not {_kind(value)}'
        )
    return value


def _refuse_constant(name: str) -> float:
    raise _WrongLine(f"not JSON: {name} is no number; leave it out")


def _identity(fields: dict[str, object]) -> str:
    if "id" in fields and "_id" in fields:
        raise _WrongLine("has both id and _id; leave one out")
    key = "_id" if "_id" in fields else "id"
    if key not in fields:
        raise _WrongLine('id is missing; add "id": "..."')
    identity = _text(fields, key)
    if not identity:
        raise _WrongLine(f"{key} is empty; give the document a name")
    return identity


def _document(identity: str, fields: dict[str, object]) -> Document:
    unknown = sorted(set(fields).difference(_KEYS))
    if unknown:
        raise _WrongLine(
            f"unknown key {unknown[0]!r}; put it into metadata: "
            f'"metadata": {{{json.dumps(unknown[0])}: ...}}'
        )
    if "text" not in fields:
        raise _WrongLine('text is missing; add "text": "..."')
    text = _text(fields, "text")
    if not text.strip():
        raise _WrongLine("text is empty; a document needs some")
    title = _text(fields, "title") if "title" in fields else ""
    metadata = _metadata(fields.get("metadata", {}))
    expires = fields.get("expires")
    return Document(identity, text, title, metadata, None if expires is None else _expires(expires))


def _expires(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _WrongLine('expires must be a time with its zone such as "2026-12-01T00:00:00Z"')
    return time


def _text(fields: dict[str, object], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise _WrongLine(f"{key} must be a string, not {_kind(value)}")
    if "\0" in value:
        raise _WrongLine(f"{key} holds a NUL character; remove it")
    return _characters(key, value)


def _characters(path: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _WrongLine(
            f"{path} holds half of a surrogate pair at character {error.start + 1}; "
            "write the whole pair or \\ufffd"
        ) from error
    return value


def _metadata(value: object) -> dict[str, MetadataValue]:
    if not isinstance(value, dict):
        raise _WrongLine(f"metadata must be an object, not {_kind(value)}")
    return {_characters("a key of metadata", key): _value(key, value[key]) for key in value}


def _value(key: str, value: object) -> MetadataValue:
    if isinstance(value, str):
        return _characters(f"metadata.{key}", value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_characters(f"metadata.{key}", item) for item in value]
    if isinstance(value, int | float):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _WrongLine(f"metadata.{key} does not fit in 64 bits; write it as a string")
        return value
    raise _WrongLine(
        f"metadata.{key} must be a string, list of strings, number or boolean, "
        f"not {_kind(value)}; leave it out or write it as a string"
    )


def _kind(value: object) -> str:
    """The value's kind in the words of JSON."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
