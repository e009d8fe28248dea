"""The folder of a shard's lexical index: what it is of, and how far it goes.

All of it is derived from the store: what is missing, damaged or of another past is removed
and built again.
"""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from services.retriever.checksum import checked, with_checksum
from services.retriever.durable_files import write_durably
from services.retriever.lexical.contents import META

# 1 has no checksum of its own, 1 and 2 do not say what the index consists of.
FORMAT_VERSION = 3
_MANIFEST = "sirdar.json"


class LexicalManifest(BaseModel):
    """`covered_seq`: all that was written up to here is in the index, and perhaps more.

    `contents` is the identity of its files then, empty where it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT_VERSION
    generation_key: int
    shard: int
    language: str
    covered_seq: int
    contents: str = ""

    def is_of(self, other: "LexicalManifest") -> bool:
        """Whether both are of the same index, at whatever time."""
        same = {"covered_seq": other.covered_seq, "contents": other.contents}
        return self.model_copy(update=same) == other


def read_manifest(folder: Path) -> LexicalManifest | None:
    """None: there is none that can be read."""
    try:
        content = (folder / _MANIFEST).read_bytes()
        text = checked(content)
        manifest = LexicalManifest.model_validate_json(content if text is None else text)
    except (OSError, ValueError):
        return None
    if manifest.format > 1 and text is None:
        return None
    if manifest.format in (1, 2):
        return manifest.model_copy(update={"format": FORMAT_VERSION, "contents": ""})
    return manifest


def write_manifest(folder: Path, manifest: LexicalManifest) -> None:
    """All or nothing. Raises OSError."""
    write_durably(folder / _MANIFEST, with_checksum(manifest.model_dump_json().encode()))


def has_index(folder: Path) -> bool:
    return (folder / META).is_file()


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
