"""Folders of text, Markdown and HTML: what becomes a document, and what is said of the rest."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sirdar.cli.folder import Pages, entries
from sirdar.cli.html_page import html_page
from sirdar.cli.markdown_page import markdown_page
from sirdar.cli.source import Found, Refusal, Skip
from sirdar.cli.text_file import BinaryFile, UnreadableText
from sirdar.client import Document


def read(root: Path) -> tuple[dict[str, Document], dict[str, str], dict[str, str]]:
    """Documents, skip reasons and refusals of a folder, by the files' names."""
    found: dict[str, Document] = {}
    skipped: dict[str, str] = {}
    refused: dict[str, str] = {}
    for item in Pages(list(entries(root))):
        if isinstance(item, Found):
            found[item.document.id] = item.document
        elif isinstance(item, Skip):
            skipped[Path(item.place).name] = item.reason
        else:
            refused[Path(item.place).name] = item.message
    return found, skipped, refused


def put(root: Path, name: str, content: bytes | str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_a_folder_gives_its_texts_by_relative_path_and_skips_the_rest(tmp_path: Path) -> None:
    put(tmp_path, "b/deep/note.txt", "a note")
    put(tmp_path, "README", "read me")
    put(tmp_path, "a.md", "# Title\n\ntext")
    put(tmp_path, "page.HTM", "<title>Page</title><p>words")
    put(tmp_path, "photo.jpg", b"\xff\xd8\xff\xe0 JFIF")
    put(tmp_path, "program", b"\x7fELF\x02\x01\x01\0\0\0")
    put(tmp_path, "named.txt", b"\x80\x01\x02 no text whatever its name says")
    put(tmp_path, "empty.txt", " \n")
    put(tmp_path, "rows.csv", "text\nx")
    put(tmp_path, "latin.txt", "naïve".encode("latin-1"))
    put(tmp_path, "wide.txt", "naïve".encode("utf-16"))
    put(tmp_path, ".git/config", "secret")
    put(tmp_path, "node_modules/x.js", "code")
    found, skipped, refused = read(tmp_path)
    assert set(found) == {"b/deep/note.txt", "README", "a.md", "page.HTM", "wide.txt"}
    assert found["wide.txt"].text == "naïve"
    assert found["a.md"] == Document("a.md", "# Title\n\ntext", "Title", {"type": "markdown"})
    assert found["page.HTM"] == Document("page.HTM", "words", "Page", {"type": "html"})
    assert skipped == {
        "photo.jpg": "binary",
        "program": "binary",
        "named.txt": "binary",
        "empty.txt": "empty",
        "rows.csv": "CSV",
    }
    assert refused == {"latin.txt": "not UTF-8 at byte 3; convert the file to UTF-8"}


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "a/file.txt", "text")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "missing")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "a" / "file.txt")
    found, _, refused = read(tmp_path)
    assert set(found) == {"a/file.txt", "linked.txt"}
    assert "symbolic links" in refused["self"]
    assert "No such file" in refused["nowhere.txt"]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read(tmp_path) == ({}, {}, {})


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("text")
    (refusal,) = Pages(list(entries(tmp_path)))
    assert isinstance(refusal, Refusal)
    assert refusal.place.isprintable()
    assert "rename it" in refusal.message


def test_a_file_that_vanishes_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "text")
    put(tmp_path, "b.txt", "text")
    files = list(entries(tmp_path))
    (tmp_path / "a.txt").unlink()
    refusal, found = Pages(files)
    assert isinstance(refusal, Refusal)
    assert refusal.message == "No such file or directory"
    assert isinstance(found, Found)
    assert found.position == 8


def test_a_page_is_its_main_text_without_furniture() -> None:
    page = html_page(
        b"<!doctype html><html><head><title> The\n tide </title>"
        b"<meta name=description content='About the sea'>"
        b"<style>p {color: red}</style><script>var a = '<p>no</p>'</script></head><body>"
        b"<nav><a href=/>Home</a></nav><main><h1>Tides</h1>"
        b"<p>The <b>moon</b> pulls\nthe sea &amp; all.<p>Twice<br>a day."
        b"<pre>high\n  low</pre><ul><li>one<li>two</ul><noscript>Enable it</noscript></main>"
        b"<footer>Imprint</footer></body></html>"
    )
    assert page.title == "The tide"
    lines = ["Tides", "The moon pulls the sea & all.", "Twice", "a day.", "high", "  low"]
    assert page.text.split("\n") == [*lines, "one", "two"]
    assert page.metadata == {"description": "About the sea"}


def test_what_is_hidden_or_within_each_other_is_left_out() -> None:
    page = html_page(
        b"<p>foo<!-- no -->bar</p><nav>a<nav>b<form>c</form></nav></nav><p hidden>no<p>yes"
        b"<svg><title>no</title><svg>no</svg></svg><pre>a\n<b>b\n</b></pre>then\nthis"
    )
    assert page.text.split("\n") == ["foobar", "yes", "a", "b", "", "then this"]
    assert page.title == ""
    assert html_page(b"<article>x" * 5_000).text.count("x") == 5_000


def test_a_page_that_misuses_main_is_read_whole() -> None:
    page = html_page(b"<body><main>x</main><div>" + b"many words of the page " * 9 + b"</div>")
    assert "many words" in page.text
    assert html_page(b"<form><p>Only a form</form>").text == "Only a form"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (b"<meta charset=iso-8859-1><p>na\xefve", "naïve"),
        (b"<p>na\xefve", "naïve"),
        ("<p>naïve".encode(), "naïve"),
        ("<p>naïve".encode("utf-16"), "naïve"),
        (b"<meta charset=utf-8><p>a\xffb", "a\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_a_page_is_read_in_its_encoding(markup: bytes, text: str) -> None:
    assert html_page(markup).text == text


def test_a_page_that_is_mostly_script_gives_its_text_or_is_refused() -> None:
    script = b"<script>" + b"render('<p>words');" * 1000 + b"</script>"
    assert html_page(script + b"<p>one line</p>").text == "one line"
    with pytest.raises(UnreadableText, match="outside its scripts"):
        html_page(script + b"<div id=root></div><noscript>Enable JavaScript</noscript>")


def test_pages_that_are_no_pages_are_refused() -> None:
    with pytest.raises(UnreadableText, match="nested deeper"):
        html_page(b"<div>" * 20_000 + b"x")
    with pytest.raises(UnreadableText, match="charset 'x-nothing' is unknown"):
        html_page(b"<meta charset=x-nothing><p>x")
    with pytest.raises(BinaryFile):
        html_page(b"\x89PNG\r\n\x1a\n\0\0")
    assert html_page(b"<li>" * 20_000 + b"x").text == "x"


def test_front_matter_becomes_title_and_metadata() -> None:
    page = markdown_page(
        b"---\r\ntitle: The sea\r\ntags: [tide, moon]\r\ndraft: false\r\nyear: 2026\r\n"
        b"day: 2026-05-04\r\nat: 2026-05-04T10:00:00Z\r\nnested: {a: 1}\r\n---\r\n# Other\r\n"
    )
    assert (page.title, page.text) == ("The sea", "# Other\n")
    assert page.metadata == {
        "tags": ["tide", "moon"],
        "draft": False,
        "year": 2026,
        "day": "2026-05-04",
        "at": datetime(2026, 5, 4, 10, tzinfo=UTC),
    }
    assert markdown_page(b"+++\ntitle = 'T'\n+++\nx").title == "T"


@pytest.mark.parametrize(
    ("markdown", "title"),
    [
        ("```sh\n# no heading\n```\n\n## A `code` [link](x) ##\n", "A code link"),
        ("Under\n=====\n", "Under"),
        ("no heading", ""),
        ("---\n: [broken\n\n---\n# After\n", "After"),
        ("---\n", ""),
    ],
)
def test_the_title_is_the_first_heading(markdown: str, title: str) -> None:
    page = markdown_page(markdown.encode())
    assert page.title == title
    assert page.text == markdown
