"""The store of record: documents, passages, vectors and collections."""
