"""The tables, step by step, for Alembic."""
