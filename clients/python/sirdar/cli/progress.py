"""The progress bar of `sirdar index`."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

# Redrawing is cheap, but not once for each of thousands of documents a second.
_UPDATE_SECONDS = 0.05


class IndexProgress:
    """Documents, rate and time left, on standard error where that is a terminal.

    The time left follows from the share of the source's bytes that are done.
    """

    def __init__(self, total_bytes: int | None) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            TextColumn("{task.fields[documents]:,} documents"),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total_bytes, documents=0, rate=0.0)
        self._began = time.monotonic()
        self._updated = self._began

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar away."""
        self._progress.stop()

    def start_at(self, position: int) -> None:
        """As many bytes were done before; they do not count for the rate."""
        self._progress.reset(self._task, completed=position, documents=0, rate=0.0)

    def advance(self, position: int, documents: int) -> None:
        """The source is done up to `position` bytes."""
        now = time.monotonic()
        if now - self._updated < _UPDATE_SECONDS:
            return
        self._updated = now
        self._progress.update(
            self._task,
            completed=position,
            documents=documents,
            rate=documents / (now - self._began),
        )

    def print(self, line: str) -> None:
        """Writes a line above the bar."""
        self._console.print(Text(line))
