"""Checksums of files."""

from pathlib import Path

import xxhash

_CHUNK_BYTES = 2**20
_LINE = b"\nxxh3_128 "


def checksum(file: Path) -> str:
    """XXH3-128 of the content, in hex: finds any torn or flipped byte at memory speed."""
    digest = xxhash.xxh3_128()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def with_checksum(text: bytes) -> bytes:
    """The text with a last line that vouches for it."""
    return text + _LINE + xxhash.xxh3_128_hexdigest(text).encode() + b"\n"


def checked(content: bytes) -> bytes | None:
    """The text of `with_checksum`; None where there is no such last line.

    Raises ValueError where the line is of another text.
    """
    text, line, digest = content.rpartition(_LINE)
    if not line:
        return None
    if digest != xxhash.xxh3_128_hexdigest(text).encode() + b"\n":
        raise ValueError("its checksum is of another content")
    return text
