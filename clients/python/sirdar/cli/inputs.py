"""What each PATH of `sirdar index` is: a file of documents, a page, or a folder."""

import io
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sirdar.cli.csv_table import CsvTable
from sirdar.cli.folder import Entry, Pages, entries, file_entry
from sirdar.cli.jsonl import JsonLines
from sirdar.cli.page import PAGE_SUFFIXES
from sirdar.cli.source import Resumable, Source
from sirdar.cli.text_file import is_binary
from sirdar.errors import InvalidArgument

STANDARD_INPUT = "-"
_CSV_SUFFIXES = frozenset({".csv", ".tsv"})
# What a folder in the format of the BEIR benchmark keeps its documents in.
_BEIR_CORPUS = "corpus.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """A source; `file` and `resumable` are set where it can be gone on with after a break."""

    source: Source
    file: Path | None = None
    resumable: Resumable | None = None


def open_inputs(paths: Sequence[str], text_column: str, stack: ExitStack) -> list[Input]:
    """The inputs in the order of the paths, pages that were named one by one as one input.

    What is wrong with a path is said before anything is indexed: raises
    OSError as the system does, and InvalidArgument for an empty folder, a
    binary file and a table without a text column.
    """
    inputs: list[Input] = []
    pages: list[Entry] = []
    for given in paths:
        path = Path(given)
        # Names tell the files of several paths apart.
        name = given if len(paths) > 1 else ""
        if given == STANDARD_INPUT:
            inputs.append(Input(JsonLines(sys.stdin.buffer, name="standard input" if name else "")))
        elif stat.S_ISDIR(path.stat().st_mode):
            inputs.append(_folder(path, name, stack))
        elif path.suffix.lower() in PAGE_SUFFIXES:
            pages.append(file_entry(path))
        elif path.suffix.lower() in _CSV_SUFFIXES:
            file = stack.enter_context(path.open("rb"))
            table = CsvTable(file, path.name, text_column)
            inputs.append(_resumable(table, file, path))
        else:
            inputs.append(_json_lines(path, name, stack))
    if pages:
        inputs.append(Input(Pages(pages)))
    return inputs


def _folder(path: Path, name: str, stack: ExitStack) -> Input:
    corpus = path / _BEIR_CORPUS
    if corpus.is_file():
        return _json_lines(corpus, name and str(corpus), stack)
    files = list(entries(path))
    if not files:
        raise InvalidArgument(
            f"there are no files in {path}, or only hidden ones; name a folder of texts"
        )
    return Input(Pages(files))


def _json_lines(path: Path, name: str, stack: ExitStack) -> Input:
    file = stack.enter_context(path.open("rb"))
    if isinstance(file, io.BufferedReader) and file.seekable() and is_binary(file.peek()):
        raise InvalidArgument(
            f"{path} is a binary file; give JSON lines, CSV, text, Markdown, HTML or a folder"
        )
    return _resumable(JsonLines(file, name=name), file, path)


def _resumable(source: JsonLines | CsvTable, file: BinaryIO, path: Path) -> Input:
    return Input(source, path, source) if file.seekable() else Input(source)
