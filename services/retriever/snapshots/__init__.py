"""Copies of sealed segments in a folder or object store, so that a new replica downloads them
instead of building them again."""
