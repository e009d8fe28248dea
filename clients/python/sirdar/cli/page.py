"""Files of text, Markdown and HTML as documents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sirdar.cli.text_file import EmptyFile, decoded, read_bytes
from sirdar.client import Document, MetadataValue

MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".rst", ".adoc", ".org", ".tex"})
PAGE_SUFFIXES = MARKDOWN_SUFFIXES | HTML_SUFFIXES | TEXT_SUFFIXES


@dataclass(frozen=True, slots=True)
class Page:
    """What a file says, without its markup."""

    text: str
    title: str = ""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


def read_document(path: Path, document_id: str) -> Document:
    """The file as a document; its `type` becomes metadata.

    Raises BinaryFile, EmptyFile, UnreadableText, and OSError as the system does.
    """
    kind, read = _reader(path)
    page = read(read_bytes(path))
    if not page.text.strip():
        raise EmptyFile
    return Document(
        id=document_id,
        title=" ".join(page.title.split()),
        # Harmless in a file, refused in a document.
        text=page.text.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        metadata={**page.metadata, "type": kind},
    )


def _reader(path: PurePath) -> tuple[str, Callable[[bytes], Page]]:
    suffix = path.suffix.lower()
    if suffix in HTML_SUFFIXES:
        from sirdar.cli.html_page import html_page

        return "html", html_page
    if suffix in MARKDOWN_SUFFIXES:
        from sirdar.cli.markdown_page import markdown_page

        return "markdown", markdown_page
    return "text", lambda content: Page(decoded(content))
