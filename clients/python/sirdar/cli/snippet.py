"""Passages on a terminal: cut to what matters, the marked sentences seen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sirdar.cli.terminal import printable

if TYPE_CHECKING:
    from rich.text import Text

    from sirdar.client import Snippet

HIGHLIGHT = "bold reverse"
# Where a terminal shows no styles, and in files.
_OPEN, _CLOSE = "«", "»"
# So much of what comes before the best sentence is shown with it.
_LEAD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text that is marked or not."""

    text: str
    marked: bool


def excerpt(snippet: "Snippet", characters: int) -> list[Part]:
    """The passage on one line, around its best sentence, at most about `characters` long."""
    text, marks = _collapsed(snippet)
    start = _start(marks, snippet, characters, text)
    end = len(text)
    if end - start > characters:
        end = text.rfind(" ", start + 1, start + characters)
        end = end if end > start else start + characters
    parts = [Part("… ", False)] if start else []
    at = start
    while at < end:
        until = at
        while until < end and marks[until] == marks[at]:
            until += 1
        parts.append(Part(text[at:until], marks[at] > 0))
        at = until
    if end < len(text):
        parts.append(Part(" …", False))
    return parts


def styled(parts: list[Part]) -> "Text":
    """Marked parts in bold and reverse."""
    from rich.text import Text

    return Text.assemble(*((part.text, HIGHLIGHT if part.marked else "") for part in parts))


def bracketed(parts: list[Part]) -> str:
    """Marked parts between quotation marks that are rare in texts."""
    return "".join(f"{_OPEN}{part.text}{_CLOSE}" if part.marked else part.text for part in parts)


def _collapsed(snippet: "Snippet") -> tuple[str, list[int]]:
    """The text with each run of white space made a space, and for each character its mark.

    0: none; 1: the best sentence; 2: another one.
    """
    marks = [0] * len(snippet.text)
    for place, span in enumerate(reversed(snippet.highlights)):
        best = place == len(snippet.highlights) - 1
        for at in range(max(span.start, 0), min(span.end, len(marks))):
            marks[at] = 1 if best else 2
    kept: list[str] = []
    kept_marks: list[int] = []
    # One for one, so that the marks stay where they are.
    for character, mark in zip(_same_length(snippet.text), marks, strict=True):
        if character.isspace():
            if not kept or kept[-1] == " ":
                continue
            kept.append(" ")
        else:
            kept.append(character)
        kept_marks.append(mark)
    while kept and kept[-1] == " ":
        kept.pop()
        kept_marks.pop()
    return "".join(kept), kept_marks


def _same_length(text: str) -> str:
    clean = printable("".join(" " if character.isspace() else character for character in text))
    assert len(clean) == len(text)
    return clean


def _start(marks: list[int], snippet: "Snippet", characters: int, text: str) -> int:
    """Where the excerpt begins: at the text's begin if the best sentence ends soon enough."""
    if len(text) <= characters or not snippet.highlights or 1 not in marks:
        return 0
    first = marks.index(1)
    last = len(marks) - 1 - marks[::-1].index(1)
    if last < characters:
        return 0
    begin = max(0, first - int(characters * _LEAD_SHARE))
    space = text.find(" ", begin, first)
    return space + 1 if space >= 0 else first
