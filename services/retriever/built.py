"""What a build made, as its process tells it.

Plain dataclasses: a process that only builds does not need to load what validates them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from services.retriever.checksum import checksum


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """`checksum` is that of `checksum.checksum`."""

    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """`vectors`: float16 ones beside a quantized index; `note`: why the kind is not the one that
    was asked for; `centroids` and `cells`: beside a graph."""

    kind: str
    note: str
    index: BuiltFile
    vectors: BuiltFile | None
    centroids: BuiltFile | None = None
    cells: BuiltFile | None = None


def durable(file: Path) -> BuiltFile:
    """Waits until a file that was written is on the disk. Raises OSError."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    return BuiltFile(bytes=file.stat().st_size, checksum=checksum(file))
