"""What a lexical index consists of: whether each file is whole, and whether it is the one that was
written here."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import xxhash

META = "meta.json"
# Each file of tantivy ends in a JSON footer, its length and a magic number; the footer has the
# CRC-32 of what is before it, and nothing of the index that it is of.
_FOOTER_END = struct.Struct("<II")
_FOOTER_MAGIC = 1337
_READ_BYTES = 2**20
_SEGMENT_FILES = ("idx", "term", "fast", "fieldnorm", "store", "pos")
_FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error)
# tantivy's own merges take files away while they are looked at.
_ROUNDS = 10


class LexicalContents:
    """The files that tantivy's description of an index names, and that description.

    A file keeps its name and its content for as long as it is there, so that
    its footer is read once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._footers: dict[str, str] = {}

    @property
    def moment(self) -> tuple[int, int] | None:
        """Another one after every commit and every merge; None: there is no description."""
        try:
            status = (self._folder / META).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def identity(self) -> str:
        """Of the description, and of the names, sizes and checksums of the files, in hex; another
        one after every commit and every merge.

        Raises OSError, ValueError where they cannot be read.
        """
        for _ in range(_ROUNDS - 1):
            try:
                return self._identity()
            except FileNotFoundError:
                continue
        return self._identity()

    def are_whole(self) -> bool:
        """Whether every file is as it was written, by its own checksum. Nothing writes
        meanwhile."""
        try:
            meta = (self._folder / META).read_bytes()
            return all(_is_whole(self._folder / name) for name in _files(meta))
        except _FAULTS:
            return False

    def _identity(self) -> str:
        meta = (self._folder / META).read_bytes()
        try:
            footers = {
                name: self._footers.get(name) or _footer(self._folder / name)
                for name in _files(meta)
            }
        except OSError:
            raise
        except _FAULTS as error:
            raise ValueError(f"{self._folder} cannot be read: {error!r}") from error
        self._footers = footers
        digest = xxhash.xxh3_128(meta)
        for name, footer in sorted(footers.items()):
            digest.update(f"\n{name} {footer}".encode())
        return digest.hexdigest()


def _files(meta: bytes) -> list[str]:
    """The names of the files of an index, from tantivy's description of it."""
    names: list[str] = []
    description: dict[str, Any] = json.loads(meta)
    for segment in description["segments"]:
        name = segment["segment_id"].replace("-", "")
        names += [f"{name}.{end}" for end in _SEGMENT_FILES]
        if segment["deletes"] is not None:
            names.append(f"{name}.{segment['deletes']['opstamp']}.del")
    return names


def _footer(path: Path) -> str:
    """The size of a file and what its footer says."""
    with path.open("rb") as file:
        end = path.stat().st_size - _FOOTER_END.size
        file.seek(end)
        footer_bytes, magic = _FOOTER_END.unpack(file.read())
        if magic != _FOOTER_MAGIC or footer_bytes > end:
            raise ValueError(f"{path} has no footer")
        file.seek(end - footer_bytes)
        return f"{end} {zlib.crc32(file.read())}"


def _is_whole(path: Path) -> bool:
    end = path.stat().st_size - _FOOTER_END.size
    with path.open("rb") as file:
        file.seek(end)
        footer_bytes, magic = _FOOTER_END.unpack(file.read())
        body = end - footer_bytes
        if magic != _FOOTER_MAGIC or body < 0:
            return False
        file.seek(body)
        footer = json.loads(file.read(footer_bytes))
        file.seek(0)
        crc = 0
        left = body
        while left:
            part = file.read(min(_READ_BYTES, left))
            if not part:
                return False
            crc = zlib.crc32(part, crc)
            left -= len(part)
    return bool(crc == footer["crc"])
