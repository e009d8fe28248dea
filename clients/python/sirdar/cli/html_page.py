"""What an HTML page says to its reader: no scripts, styles, menus or forms."""

import codecs
import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from sirdar.cli.page import Page
from sirdar.cli.text_file import BinaryFile, UnreadableText, is_binary, marked_encoding

# What is no text, and what is the page's and not its text's.
_SILENT = frozenset(
    {"script", "style", "template", "noscript", "svg", "canvas", "iframe", "object", "-comment"}
)
_FURNITURE = _SILENT | {"nav", "aside", "footer", "form", "dialog"}
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q ruby "
        "rb rt s samp small span strike strong sub sup time tt u var wbr",
    )
)
# The parser's names for what is no element.
_WITHIN_LINES = frozenset({"-text", "-comment"})
_LINE_END = re.compile(r"\r?\n")
# A page names its encoding in its first bytes or has the Web's oldest one.
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]{1,40})", re.IGNORECASE)
_DECLARATION_BYTES = 2_048
_FALLBACK = "windows-1252"
# The parser's time grows with the square of the depth: 0.3 s for 10,000, 100 s for 200,000.
# Elements that end without being closed do not nest.
_TAG = re.compile(r"<(/?)([a-zA-Z][\w-]*)")
_UNCLOSED = frozenset(
    re.findall(
        r"\w+",
        "area base br col colgroup dd dt embed hr img input li link meta option p param source "
        "tbody td tfoot th thead tr track wbr",
    )
)
_MAX_DEPTH = 10_000
# Where the main part has less of the text than this, the page does not use the element for it.
_MAIN_SHARE = 0.3
# The outermost come first; each of thousands in each other would be read again and again.
_MAX_CANDIDATES = 50


def html_page(content: bytes) -> Page:
    """The main text of the page, a block a line. Raises UnreadableText, BinaryFile."""
    markup = _markup(content)
    _check_depth(markup)
    tree = LexborHTMLParser(markup)
    title = _text_of(tree.css_first("head > title")) or _text_of(tree.css_first("h1"))
    text = _main_text(tree)
    if not text and tree.css_first("script") is not None:
        raise UnreadableText(
            "there is no text outside its scripts; save the page as a browser shows it"
        )
    return Page(text, title, _description(tree))


def _markup(content: bytes) -> str:
    if is_binary(content):
        raise BinaryFile
    encoding = marked_encoding(content)
    declared = _CHARSET.search(content[:_DECLARATION_BYTES])
    if encoding is None and declared is not None:
        name = declared[1].decode("ascii", errors="replace")
        try:
            encoding = codecs.lookup(name).name
        except LookupError as error:
            raise UnreadableText(f"its charset {name!r} is unknown; convert it to UTF-8") from error
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeError:
        # As browsers do: a wrong byte costs a character, not the page.
        return content.decode(encoding or _FALLBACK, errors="replace")


def _check_depth(markup: str) -> None:
    depth = 0
    for match in _TAG.finditer(markup):
        if match[2].lower() in _UNCLOSED:
            continue
        depth += -1 if match[1] else 1
        if depth > _MAX_DEPTH:
            raise UnreadableText(f"its elements are nested deeper than {_MAX_DEPTH:,}")


def _main_text(tree: LexborHTMLParser) -> str:
    """The text of <main> or <article> where that is the page's, else of the body."""
    body = tree.body
    if body is None:
        return ""
    everything = _text_of(body)
    candidates = tree.css("main, [role=main], article")[:_MAX_CANDIDATES]
    main = max((_text_of(node, _FURNITURE) for node in candidates), key=len, default="")
    if len(main) >= _MAIN_SHARE * len(everything):
        return main
    # A page that is all form or menu says more with them than without.
    return _text_of(body, _FURNITURE) or everything


def _text_of(node: LexborNode | None, skipped: frozenset[str] = _SILENT) -> str:
    """Blocks as lines; white space as a browser shows it, but for preformatted text."""
    if node is None:
        return ""
    lines = "".join(_pieces(node, skipped)).split("\n")
    kept = (line.replace("\v", "\n") for line in map(_collapsed, lines) if line)
    return "\n".join(kept).strip()


def _collapsed(line: str) -> str:
    # What is preformatted is marked by vertical tabs in place of line ends.
    return line if "\v" in line else " ".join(line.split())


def _pieces(root: LexborNode, skipped: frozenset[str]) -> Iterator[str]:
    """Text with a line end at each block's begin and end. No recursion: pages may be deep."""
    node: LexborNode | None = root
    preformatted = 0
    while node is not None:
        below = node.child
        if node.is_text_node:
            text = (node.text_content or "").replace("\v", " ")
            yield _LINE_END.sub("\v" if preformatted else " ", text)
        elif node.tag in skipped or _hidden(node):
            below = None
        elif node.tag not in _INLINE:
            yield "\n"
        if below is not None:
            preformatted += node.tag == "pre"
            node = below
            continue
        while node is not None:
            if node.tag not in _INLINE and node.tag not in _WITHIN_LINES:
                yield "\n"
            if node.mem_id == root.mem_id:
                return
            if node.next is not None:
                node = node.next
                break
            node = node.parent
            preformatted -= node is not None and node.tag == "pre"


def _hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    return "hidden" in attributes or attributes.get("aria-hidden") == "true"


def _description(tree: LexborHTMLParser) -> dict[str, str]:
    node = tree.css_first("meta[name=description]")
    content = node.attributes.get("content") if node is not None else None
    return {"description": " ".join(content.split())} if content and content.strip() else {}
