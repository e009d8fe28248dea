"""Several retrievers over one store: who they are, and which shards each of them has."""
