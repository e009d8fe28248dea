"""A module a step; each can be undone."""
