"""The gateway: composes embedder and retriever into one search API."""
