"""Where documents live."""

import xxhash


def shard_of(document_id: str, shards: int) -> int:
    """The shard of a document and all its passages."""
    return xxhash.xxh64_intdigest(document_id.encode()) % shards
