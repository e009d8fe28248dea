"""Recall as live queries have it: a few are searched again exactly, in the background."""
