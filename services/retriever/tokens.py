"""The opaque strings that callers carry: consistency tokens and page tokens.

Each starts with the version of its layout, so that a later one can be told apart.
"""

import base64
import binascii
import struct

import xxhash

from services.retriever.store.records import Position
from sirdar.errors import InvalidArgument

_VERSION = 1
# Version, generation key, shard, seq.
_CONSISTENCY = struct.Struct(">BQHQ")
# Version, hash of the list; the last key of the page follows.
_PAGE = struct.Struct(">BQ")


def consistency_token(position: Position) -> str:
    return _encode(
        _CONSISTENCY.pack(_VERSION, position.generation_key, position.shard, position.seq)
    )


def read_consistency_token(token: str, field: str) -> Position:
    data = _decode(token)
    if data is None or len(data) != _CONSISTENCY.size or data[0] != _VERSION:
        raise InvalidArgument.field(
            field, "is not a consistency token of this server", reason="BAD_CONSISTENCY_TOKEN"
        )
    _, generation_key, shard, seq = _CONSISTENCY.unpack(data)
    return Position(generation_key, shard, seq)


def page_token(list_name: str, last: str) -> str:
    """The token of what follows `last` in a list; `list_name` says which list it is of."""
    return _encode(_PAGE.pack(_VERSION, xxhash.xxh64_intdigest(list_name.encode())) + last.encode())


def read_page_token(token: str, list_name: str) -> str:
    """The key to go on after; empty for an empty token: the start."""
    if not token:
        return ""
    data = _decode(token)
    if data is None or len(data) <= _PAGE.size or data[0] != _VERSION:
        raise _bad_page_token("is not a page token of this server")
    if _PAGE.unpack_from(data)[1] != xxhash.xxh64_intdigest(list_name.encode()):
        raise _bad_page_token("is of another list; start without one")
    try:
        return data[_PAGE.size :].decode()
    except UnicodeDecodeError as error:
        raise _bad_page_token("is not a page token of this server") from error


def _bad_page_token(description: str) -> InvalidArgument:
    return InvalidArgument.field("page_token", description, reason="BAD_PAGE_TOKEN")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(token: str) -> bytes | None:
    try:
        return base64.b64decode(
            (token + "=" * (-len(token) % 4)).encode(), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        return None
