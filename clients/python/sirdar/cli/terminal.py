"""Text for terminals."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from sirdar.cli.connection import Connection

# Text of others may hold escape sequences, which would act on the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"\s+")


def printable(text: str) -> str:
    """The text with control characters replaced; tabs and line ends stay."""
    clean = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return clean.encode(errors="replace").decode()


def one_line(text: str) -> str:
    """The same, with each run of white space made one space."""
    return printable(_SPACES.sub(" ", text).strip())


@contextmanager
def explained(connection: Connection) -> Iterator[None]:
    """Ends the command with code 1 and one line on standard error where a call fails."""
    from sirdar.errors import SirdarError

    try:
        yield
    except SirdarError as error:
        print(f"error: {one_line(connection.explain(error))}", file=sys.stderr)
        raise typer.Exit(1) from error
