"""Text for terminals."""

import re

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
