"""The documents that were not indexed."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from sirdar.cli.source import Refusal
from sirdar.cli.terminal import one_line

SHOWN = 5


class Refusals:
    """Shows the first few, counts all, and writes all to a file if there is one."""

    def __init__(self, file: Path | None, show: Callable[[str], None]) -> None:
        self._path = file
        self._show = show
        self._file: TextIO | None = None
        self._stack = ExitStack()
        self.count = 0

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._stack.enter_context(self._path.open("w", encoding="utf-8"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, refusal: Refusal) -> None:
        self.count += 1
        if self._file is not None:
            # ASCII escapes carry every string, half surrogates too.
            self._file.write(json.dumps(asdict(refusal)) + "\n")
        if self.count <= SHOWN:
            name = f" ({_short(refusal.document_id)})" if refusal.document_id else ""
            self._show(one_line(f"refused: {refusal.place}{name}: {refusal.message}"))
        elif self.count == SHOWN + 1:
            where = f"in {self._path}" if self._path else "shown with --refused FILE"
            self._show(f"refused: more, all of them {where}")


def _short(document_id: str) -> str:
    return document_id if len(document_id) <= 60 else f"{document_id[:59]}…"
