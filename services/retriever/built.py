"""What a build made, as its process tells it.

Plain dataclasses: a process that only builds does not need to load what validates them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """`checksum` is that of `checksum.checksum`."""

    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """`vectors`: float16 ones beside a quantized index; `note`: why the kind is not the one that
    was asked for."""

    kind: str
    note: str
    index: BuiltFile
    vectors: BuiltFile | None
