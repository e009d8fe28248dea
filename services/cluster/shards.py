"""How many shards a generation may have."""

from sirdar.errors import InvalidArgument

MAX_SHARDS = 64
"""Each is searched by each query and takes files and memory of its own."""


def check_shards(shards: int, field: str) -> None:
    """Raises InvalidArgument that names the limit."""
    if not 1 <= shards <= MAX_SHARDS:
        raise InvalidArgument.field(field, f"must be 1 to {MAX_SHARDS}, not {shards}")
