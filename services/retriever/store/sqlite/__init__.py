"""The store of record on SQLite: one owner process, no server."""
