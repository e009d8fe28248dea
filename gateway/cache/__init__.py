"""Answers that are kept: in process, on Redis, and by what queries mean."""
