"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Figures are medians over the turns."""

    turns: int = 3
    seconds: float = 1.0
    """Of each measurement of the engine, at least."""
    texts: int = 4096
    """Short ones at once, and a quarter as many long ones."""
    server_texts: int = 32_768
    """Of mixed length, 32 a message; a quarter as many short ones, one a message."""
    calls: int = 300
    """One after the other."""


SHORT = Scale(turns=1, seconds=1.0, texts=1024, server_texts=2048, calls=50)
"""To see that it runs; its numbers say little."""
