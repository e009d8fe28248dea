"""The files of a shard's lexical index: what they are of, how far they go, whether they are whole.

All of it is derived from the store: what is missing, damaged or of another past is removed
and built again.
"""

import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.retriever.checksum import checked, with_checksum
from services.retriever.shard_folder import write_durably

# 1 has no checksum of its own.
FORMAT_VERSION = 2
_MANIFEST = "sirdar.json"
_META = "meta.json"
# Each file of tantivy ends in a JSON footer, its length and a magic number; the footer has the
# CRC-32 of what is before it.
_FOOTER_END = struct.Struct("<II")
_FOOTER_MAGIC = 1337
_READ_BYTES = 2**20
_SEGMENT_FILES = ("idx", "term", "fast", "fieldnorm", "store", "pos")


class LexicalManifest(BaseModel):
    """`covered_seq`: all that was written up to here is in the index, and perhaps more."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT_VERSION
    generation_key: int
    shard: int
    language: str
    covered_seq: int

    def is_of(self, other: "LexicalManifest") -> bool:
        return self.model_copy(update={"covered_seq": other.covered_seq}) == other


def read_manifest(folder: Path) -> LexicalManifest | None:
    """None: there is none that can be read."""
    try:
        content = (folder / _MANIFEST).read_bytes()
        text = checked(content)
        manifest = LexicalManifest.model_validate_json(content if text is None else text)
    except (OSError, ValueError):
        return None
    if manifest.format == 1:
        return manifest.model_copy(update={"format": FORMAT_VERSION})
    return manifest if text is not None else None


def write_manifest(folder: Path, manifest: LexicalManifest) -> None:
    """All or nothing. Raises OSError."""
    write_durably(folder / _MANIFEST, with_checksum(manifest.model_dump_json().encode()))


def has_index(folder: Path) -> bool:
    return (folder / _META).is_file()


def size_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # A merge took its place.
            continue
    return total


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether every file of the index is as it was written. Nothing writes meanwhile."""
    try:
        meta: dict[str, Any] = json.loads((folder / _META).read_bytes())
        for segment in meta["segments"]:
            name = segment["segment_id"].replace("-", "")
            ends = list(_SEGMENT_FILES)
            if segment["deletes"] is not None:
                ends.append(f"{segment['deletes']['opstamp']}.del")
            if not all(_is_whole(folder / f"{name}.{end}") for end in ends):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False
    return True


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
