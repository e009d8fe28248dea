"""Documentation strings out of Python source that is not run."""

import sys
from pathlib import Path

import pytest

from sirdar.cli.python_docs import PythonDocs
from sirdar.client import Document
from sirdar.errors import InvalidArgument

LONG = "Says something that is long enough to be worth a document of its own."

MODULE = f'''
"""Module: {LONG}"""
raise SystemExit("this module was run")

class Shown:
    """Class: {LONG}

    Then:
        With an indented line.
    """
    def method(self):
        """Method: {LONG}"""
    def _private(self):
        """Private: {LONG}"""
    @property
    def twice(self):
        """First: {LONG}"""
    @twice.setter
    def twice(self, value):
        """Second: {LONG}"""

async def coroutine():
    """Coroutine: {LONG}"""
    def inner():
        """Inner: {LONG}"""

def short():
    """Too short."""

def repeated():
    """Coroutine: {LONG}"""

if True:
    try:
        def conditional():
            """Conditional: {LONG} \\0 \\ud800"""
    except ImportError:
        def fallback():
            """Fallback: {LONG}"""
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution `example-dist` in a folder of its own on the path."""
    files = {
        "example/__init__.py": f'"""Package: {LONG}"""',
        "example/module.py": MODULE,
        "example/_hidden.py": f'"""Hidden: {LONG}"""',
        "example/test_it.py": f'"""Test: {LONG}"""',
        "example/tests/more.py": f'"""More tests: {LONG}"""',
        "example/broken.py": "def (:",
        "example/nul.py": "x = '\0'",
        "example/latin.py": f'# -*- coding: latin-1 -*-\n"""Übung: {LONG}"""',
        "example/data.txt": "no source",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="latin-1" if "latin" in name else "utf-8")
    info = tmp_path / "example_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-dist\nVersion: 1.0\n")
    record = [*files, "example/gone.py"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in record))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def documents(*packages: str) -> dict[str, Document]:
    return {found.document.id: found.document for found in PythonDocs(packages)}


def test_each_documented_public_definition_is_a_document(installed: Path) -> None:
    found = documents("example-dist")
    assert set(found) == {
        "example-dist/example",
        "example-dist/example.latin",
        "example-dist/example.module",
        "example-dist/example.module.Shown",
        "example-dist/example.module.Shown.method",
        "example-dist/example.module.Shown.twice",
        "example-dist/example.module.coroutine",
        "example-dist/example.module.conditional",
        "example-dist/example.module.fallback",
    }
    assert "example.module" not in sys.modules


def test_a_document_has_the_clean_text_and_says_where_it_is_from(installed: Path) -> None:
    found = documents("example-dist")
    shown = found["example-dist/example.module.Shown"]
    assert shown.text == f"Class: {LONG}\n\nThen:\n    With an indented line."
    assert shown.title == "example.module.Shown"
    assert shown.metadata == {
        "package": "example-dist",
        "module": "example.module",
        "kind": "class",
        "line": 5,
    }
    assert found["example-dist/example.module.Shown.twice"].text == f"First: {LONG}"
    assert found["example-dist/example.latin"].text.startswith("Übung")
    kinds = {name.rsplit(".", 1)[-1]: item.metadata["kind"] for name, item in found.items()}
    assert (kinds["method"], kinds["coroutine"], kinds["module"]) == (
        "method",
        "function",
        "module",
    )


def test_what_no_document_may_hold_is_escaped(installed: Path) -> None:
    text = documents("example-dist")["example-dist/example.module.conditional"].text
    assert text.endswith("\\0 \\ud800")
    text.encode()


def test_positions_end_at_the_total(installed: Path) -> None:
    docs = PythonDocs(["example-dist"])
    positions = [found.position for found in docs]
    assert positions == sorted(positions)
    assert positions[-1] <= docs.total_bytes


def test_the_standard_library_has_thousands() -> None:
    found = documents("stdlib")
    assert len(found) > 3_000
    assert "stdlib/json.dumps" in found
    assert not any(name.startswith("stdlib/test.") for name in found)


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidArgument, match="'no-such-package' is not installed"):
        PythonDocs(["no-such-package"])
