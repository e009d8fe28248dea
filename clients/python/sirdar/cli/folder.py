"""The files of a folder, and folders of pages as a source of documents."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sirdar.cli.page import read_document
from sirdar.cli.source import Found, Item, Refusal, Skip
from sirdar.cli.text_file import BinaryFile, EmptyFile, UnreadableText

# Not what people write.
_PASSED_OVER = frozenset({"__pycache__", "node_modules"})
# Many documents a file: they are indexed when they are named themselves.
_TABLES = {".jsonl": "JSON lines", ".ndjson": "JSON lines", ".csv": "CSV", ".tsv": "CSV"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as it was when it was looked at; `fault` says why it cannot be read."""

    path: Path
    document_id: str
    size_bytes: int = 0
    modified_ns: int = 0
    fault: str = ""


def entries(root: Path) -> Iterator[Entry]:
    """The regular files of a folder, at any depth, by name; hidden ones are passed over.

    Links are followed, and each folder entered once: a link to a folder above
    ends there. Raises OSError where the folder itself cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    # A stack, not recursion: folders may be deep.
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            paths = [] if identity in seen else sorted(folder.iterdir())
        except OSError as error:
            if folder == root:
                raise
            yield _faulty(folder, root, error)
            continue
        seen.add(identity)
        below: list[Path] = []
        yield from _files(paths, root, below)
        pending += reversed(below)


def _files(paths: Sequence[Path], root: Path, below: list[Path]) -> Iterator[Entry]:
    """The files among the paths; folders are added to `below`."""
    for path in paths:
        if path.name.startswith(".") or path.name in _PASSED_OVER:
            continue
        try:
            status = path.stat()
        except OSError as error:
            yield _faulty(path, root, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            below.append(path)
        elif stat.S_ISREG(status.st_mode):
            yield Entry(path, _identity(path, root), status.st_size, status.st_mtime_ns)


def file_entry(path: Path) -> Entry:
    """A file that was named itself; its id is the path as it was given."""
    status = path.stat()
    return Entry(path, path.as_posix(), status.st_size, status.st_mtime_ns)


def _identity(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _faulty(path: Path, root: Path, error: OSError) -> Entry:
    return Entry(path, _identity(path, root), fault=error.strerror or str(error))


class Pages:
    """One document a file of text, Markdown or HTML; what cannot be read is refused by name."""

    def __init__(self, files: Sequence[Entry]) -> None:
        self._files = files
        self.total_bytes: int | None = sum(file.size_bytes for file in files)

    def __iter__(self) -> Iterator[Item]:
        position = 0
        for file in self._files:
            position += file.size_bytes
            yield read_entry(file, position)


def read_entry(file: Entry, position: int = 0) -> Item:
    """The file's document, or why there is none."""
    place = str(file.path).encode(errors="backslashreplace").decode()
    fault = "its name is not UTF-8; rename it" if place != str(file.path) else file.fault
    if fault:
        return Refusal(place, "" if place != str(file.path) else file.document_id, fault)
    reason = _TABLES.get(file.path.suffix.lower(), "")
    try:
        if not reason:
            return Found(read_document(file.path, file.document_id), place, position)
    except BinaryFile:
        reason = "binary"
    except EmptyFile:
        reason = "empty"
    except UnreadableText as error:
        return Refusal(place, file.document_id, str(error))
    except OSError as error:
        return Refusal(place, file.document_id, error.strerror or str(error))
    return Skip(place, file.document_id, reason)
