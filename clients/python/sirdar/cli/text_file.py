"""The text of a file of which only the name is known."""

import codecs
import re
from pathlib import Path

# A document may have a few MB; an HTML page several times its text.
MAX_FILE_BYTES = 32 * 2**20
_SNIFFED_BYTES = 8 * 2**10

_BYTE_ORDER_MARKS = (
    # The longer ones first: UTF-32's begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Formats that may have no NUL in their first bytes.
_BINARY_STARTS = (b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff")
# What no text has but terminals' escapes; tab, line ends and form feed are text.
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class BinaryFile(Exception):
    """The file is no text."""


class EmptyFile(Exception):
    """The file holds no text."""


class UnreadableText(Exception):
    """What is wrong with the file, said with the fix."""


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises UnreadableText where it is too large, OSError as the system does."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableText(f"the file is longer than {MAX_FILE_BYTES:,} bytes; split it")
    return content


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a byte order mark names."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), None)


def is_binary(start: bytes) -> bool:
    """Whether a file that starts so is no text."""
    if marked_encoding(start) is not None:
        return False
    return start.startswith(_BINARY_STARTS) or b"\0" in start[:_SNIFFED_BYTES]


def decoded(content: bytes) -> str:
    """The text, from UTF-8 or what a byte order mark names. Raises BinaryFile, UnreadableText."""
    if is_binary(content):
        raise BinaryFile
    encoding = marked_encoding(content) or "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and _CONTROLS.search(content):
            raise BinaryFile from error
        name = encoding.removesuffix("-sig").upper()
        raise UnreadableText(
            f"not {name} at byte {error.start + 1}; convert the file to UTF-8"
        ) from error
