"""The documentation strings of installed Python packages, as documents.

Source files are parsed, never imported or run.
"""

import ast
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path, PurePath

from sirdar.cli.source import Found
from sirdar.client import Document
from sirdar.errors import InvalidArgument

STDLIB = "stdlib"

# Shorter ones say no more than the name does.
_MIN_CHARACTERS = 40
_SKIPPED_FOLDERS = {
    "__pycache__",
    "idlelib",
    "lib2to3",
    "node_modules",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "turtledemo",
}

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A module of a package; `module` is its dotted name."""

    package: str
    module: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Docstring:
    name: str
    kind: str
    line: int
    text: str


class PythonDocs:
    """One document a documented module, class, function and method.

    Tests, private names, repeated and trivial strings are left out. Without
    `packages`, all installed ones and the standard library; raises
    InvalidArgument for one that is not installed or has no source.
    """

    def __init__(self, packages: Sequence[str] = ()) -> None:
        self._files = list(_files(packages))
        self.total_bytes = sum(file.size_bytes for file in self._files)

    def __iter__(self) -> Iterator[Found]:
        names: set[str] = set()
        texts: set[int] = set()
        position = 0
        for file in self._files:
            position += file.size_bytes
            for docstring in _docstrings(file):
                identity = f"{file.package}/{docstring.name}"
                digest = hash(docstring.text)
                if identity in names or digest in texts:
                    continue
                names.add(identity)
                texts.add(digest)
                place = f"{file.path}:{docstring.line}"
                yield Found(_document(identity, file, docstring), place, position)


def _document(identity: str, file: SourceFile, docstring: _Docstring) -> Document:
    return Document(
        id=identity,
        title=docstring.name,
        text=docstring.text,
        metadata={
            "package": file.package,
            "module": file.module,
            "kind": docstring.kind,
            "line": docstring.line,
        },
    )


def _files(packages: Sequence[str]) -> Iterator[SourceFile]:
    if not packages or STDLIB in packages:
        root = Path(sysconfig.get_path("stdlib"))
        yield from _modules(STDLIB, root, sorted(p.relative_to(root) for p in root.rglob("*.py")))
    for installed in _distributions(packages):
        listed = installed.files or ()
        paths = [PurePath(str(file)) for file in listed if file.suffix == ".py"]
        found = list(_modules(installed.name, Path(str(installed.locate_file(""))), paths))
        if not found and packages:
            raise InvalidArgument.field(
                "--package",
                f"{installed.name} lists no Python source; it may be an editable install",
            )
        yield from found


def _distributions(packages: Sequence[str]) -> Iterator[Distribution]:
    if not packages:
        yield from distributions()
    for name in packages:
        if name == STDLIB:
            continue
        try:
            yield distribution(name)
        except PackageNotFoundError as error:
            raise InvalidArgument.field(
                "--package", f"{name!r} is not installed; `pip list` shows what is"
            ) from error


def _modules(package: str, root: Path, paths: Sequence[PurePath]) -> Iterator[SourceFile]:
    """The public modules among the paths, which are relative to the root."""
    for path in paths:
        parts = path.with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        if not all(_public(part) for part in parts) or _SKIPPED_FOLDERS.intersection(path.parts):
            continue
        if path.stem.startswith("test_") or path.stem.endswith("_test") or path.stem == "conftest":
            continue
        try:
            size = (root / path).stat().st_size
        except OSError:
            # Listed, but not there any more.
            continue
        yield SourceFile(package, ".".join(parts), root / path, size)


def _public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")


def _docstrings(file: SourceFile) -> Iterator[_Docstring]:
    """All that are worth a document; nothing of a file that Python could not read either."""
    try:
        with warnings.catch_warnings():
            # Other people's invalid escapes are not the reader's business.
            warnings.simplefilter("ignore")
            tree = ast.parse(file.path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    yield from _of(tree, file.module, "module", 1)
    yield from _within(tree.body, file.module, in_class=False)


def _within(body: Sequence[ast.stmt], prefix: str, *, in_class: bool) -> Iterator[_Docstring]:
    for node in body:
        if isinstance(node, _Definition):
            if node.name.startswith("_") and not node.name.endswith("__"):
                continue
            name = f"{prefix}.{node.name}"
            is_class = isinstance(node, ast.ClassDef)
            kind = "class" if is_class else "method" if in_class else "function"
            yield from _of(node, name, kind, node.lineno)
            if is_class:
                yield from _within(node.body, name, in_class=True)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            # Definitions for one platform or version stand below a condition.
            blocks = [node.body]
            blocks += [getattr(node, field, []) for field in ("orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            for block in blocks:
                yield from _within(block, prefix, in_class=in_class)


def _of(node: ast.Module | _Definition, name: str, kind: str, line: int) -> Iterator[_Docstring]:
    text = ast.get_docstring(node)
    if text is None or len(text.strip()) < _MIN_CHARACTERS:
        return
    # A literal may hold what no document may.
    clean = text.strip().encode(errors="backslashreplace").decode().replace("\0", "\\0")
    yield _Docstring(name, kind, line, clean)
