"""Markdown files: the text as it was written, the title, and front matter as metadata."""

import re
import tomllib
from datetime import date, datetime
from typing import Any

import yaml

from sirdar.cli.page import Page
from sirdar.cli.text_file import decoded
from sirdar.client import MetadataValue

_FRONT_MATTER = re.compile(
    r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<fields>.*?)^(?P=fence)[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
# YAML takes seconds for megabytes, and no front matter has them.
_MAX_FIELDS_CHARACTERS = 2**16
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def markdown_page(content: bytes) -> Page:
    """The markup stays: it is readable, and spans of passages point into the file's text.

    Raises UnreadableText, BinaryFile.
    """
    text = decoded(content).replace("\r\n", "\n")
    fields: dict[Any, object] = {}
    if match := _FRONT_MATTER.match(text[:_MAX_FIELDS_CHARACTERS]):
        parsed = _fields(match["fence"], match["fields"])
        # What is no front matter stays text: a page may begin with a rule.
        if parsed is not None:
            fields, text = parsed, text[match.end() :]
    title = fields.pop("title", None)
    metadata = {
        str(key): value for key, item in fields.items() if (value := _value(item)) is not None
    }
    return Page(text, title if isinstance(title, str) and title else _first_heading(text), metadata)


def _fields(fence: str, text: str) -> dict[Any, object] | None:
    try:
        fields = tomllib.loads(text) if fence == "+++" else yaml.safe_load(text)
    # A date such as 2020-13-45 is a ValueError; RecursionError: brackets by the thousand.
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _value(item: object) -> MetadataValue | None:
    """None for what metadata does not hold."""
    if isinstance(item, int) and not -(2**63) <= item < 2**63:
        return str(item)
    if isinstance(item, str | bool | int | float):
        return item
    if isinstance(item, datetime) and item.tzinfo is not None:
        return item
    if isinstance(item, date):
        return item.isoformat()
    if isinstance(item, list) and item and all(isinstance(part, str) for part in item):
        return [str(part) for part in item]
    return None


def _first_heading(text: str) -> str:
    fence = ""
    previous = ""
    for line in text.split("\n"):
        if match := _FENCE.match(line):
            if not fence:
                fence = match[1]
            elif match[1].startswith(fence):
                fence = ""
            previous = ""
            continue
        if fence:
            continue
        if match := _HEADING.match(line):
            return _plain(match[1])
        if _UNDERLINE.match(line) and previous.strip():
            return _plain(previous)
        previous = line
    return ""


def _plain(heading: str) -> str:
    return _LINK.sub(r"\1", heading).replace("`", "").replace("**", "").strip()
