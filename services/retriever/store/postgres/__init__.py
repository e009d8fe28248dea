"""The store of record in PostgreSQL, which several retrievers share."""
