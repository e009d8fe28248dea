"""BM25 beside the vectors: an index of words for each shard, derived from the store."""
