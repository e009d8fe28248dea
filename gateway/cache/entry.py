"""A kept answer, and its form in a store that others write to as well."""

import struct
import zlib
from dataclasses import dataclass

from sirdar.errors import DataLoss

FORMAT_VERSION = 2
_MAGIC = b"SRDR"
# Magic, version, CRC-32 of what follows it: slot, position, when it expires, the answer.
_HEAD = struct.Struct(">4sHI")
_REST = struct.Struct(">32s32sd")

OTHER_VERSION = "CACHE_ENTRY_VERSION"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """`position` is the digest of the position that the answer was found at, `answer` a
    serialized SearchResponse without timings, `expires_at` in seconds since the epoch."""

    position: bytes
    expires_at: float
    answer: bytes


def encode(slot: bytes, entry: CacheEntry) -> bytes:
    rest = _REST.pack(slot, entry.position, entry.expires_at) + entry.answer
    return _HEAD.pack(_MAGIC, FORMAT_VERSION, zlib.crc32(rest)) + rest


def decode(slot: bytes, data: bytes) -> CacheEntry:
    """Raises DataLoss for what is damaged or of another slot, with the reason OTHER_VERSION for
    what another version wrote."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise DataLoss("the cache entry is damaged")
    _, version, checksum = _HEAD.unpack_from(data)
    if version != FORMAT_VERSION:
        raise DataLoss(
            f"the cache entry has format {version}, not {FORMAT_VERSION}", reason=OTHER_VERSION
        )
    rest = memoryview(data)[_HEAD.size :]
    if len(rest) < _REST.size or zlib.crc32(rest) != checksum:
        raise DataLoss("the cache entry is damaged")
    of_slot, position, expires_at = _REST.unpack_from(rest)
    if of_slot != slot:
        raise DataLoss("the cache entry is another request's")
    return CacheEntry(position, expires_at, bytes(rest[_REST.size :]))
