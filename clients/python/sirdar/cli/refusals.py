"""The documents that were not indexed."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

from sirdar.cli.source import Refusal, Skip
from sirdar.cli.terminal import one_line

SHOWN = 5


class Refusals:
    """Shows the first few, counts all, and writes all to a file if there is one.

    Skipped files are only counted, by reason, and written to the file. With
    `append` the file keeps what an earlier run wrote.
    """

    def __init__(
        self, file: Path | None, show: Callable[[str], None], *, append: bool = False
    ) -> None:
        self._path = file
        self._show = show
        self._mode: Literal["a", "w"] = "a" if append else "w"
        self._file: TextIO | None = None
        self._stack = ExitStack()
        self.count = 0
        self.skipped: Counter[str] = Counter()

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._stack.enter_context(
                self._path.open(mode=self._mode, encoding="utf-8")
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def skip(self, skip: Skip) -> None:
        self.skipped[skip.reason] += 1
        self._write(Refusal(skip.place, skip.document_id, f"skipped: {skip.reason}"))

    def add(self, refusal: Refusal) -> None:
        self.count += 1
        self._write(refusal)
        if self.count <= SHOWN:
            name = f" ({_short(refusal.document_id)})" if refusal.document_id else ""
            self._show(one_line(f"refused: {refusal.place}{name}: {refusal.message}"))
        elif self.count == SHOWN + 1:
            where = f"in {self._path}" if self._path else "shown with --refused FILE"
            self._show(f"refused: more, all of them {where}")

    def _write(self, refusal: Refusal) -> None:
        if self._file is not None:
            # ASCII escapes carry every string, half surrogates too.
            self._file.write(json.dumps(asdict(refusal)) + "\n")

    def summary(self) -> str:
        """How many were skipped, by reason, and refused."""
        parts = []
        if self.skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
            parts.append(f"{self.skipped.total():,} skipped ({reasons})")
        parts.append(f"{self.count:,} refused")
        return ", ".join(parts)


def _short(document_id: str) -> str:
    return document_id if len(document_id) <= 60 else f"{document_id[:59]}…"
