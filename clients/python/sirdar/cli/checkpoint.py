"""How far a file was indexed, kept for `sirdar index --resume`."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs

from sirdar.cli.source import Mark

# Losing the last seconds costs no more than sending them again.
_SAVE_SECONDS = 2.0


class Checkpoint:
    """The mark up to which every document of a file was answered, in a file of the user's state.

    It holds for this file, unchanged, and this `target`: the collection, and
    when and where it was made. It is kept when the `with` block is left by an
    error and removed when it is left otherwise. Where it cannot be written,
    `warn` is told once and indexing goes on without it.
    """

    def __init__(self, file: Path, target: str, warn: Callable[[str], None]) -> None:
        self._identity = {**_identity(file), "target": target}
        name = hashlib.sha256(f"{file.absolute()}\0{target}".encode(errors="surrogateescape"))
        folder = Path(platformdirs.user_state_dir("sirdar", appauthor=False)) / "index"
        self._path = folder / f"{name.hexdigest()[:32]}.json"
        self._warn = warn
        self._mark = Mark()
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            if self.started:
                self._save()
            return
        try:
            self._path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as fault:
            self._warn(f"remove {self._path} by hand: {fault.strerror}")

    @property
    def started(self) -> bool:
        """Whether there is something to go on from."""
        return self._mark.number > 0

    def load(self) -> Mark | None:
        """The mark of an earlier run; None without one, or if the file or target is another."""
        try:
            kept = json.loads(self._path.read_text())
            mark = Mark(kept.pop("position"), kept.pop("number"))
        except (OSError, ValueError, KeyError):
            return None
        if kept != self._identity:
            return None
        self._mark = mark
        return mark

    def reached(self, mark: Mark) -> None:
        """All documents before the mark are durable or refused."""
        self._mark = mark
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        """Another run, or this one after a crash, sees the old file or the new one."""
        self._saved = time.monotonic()
        kept = {
            **self._identity,
            "position": self._mark.position,
            "number": self._mark.number,
        }
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(kept))
            beside.replace(self._path)
        except OSError as error:
            self._warn(f"--resume will not work: {error.filename}: {error.strerror}")
            self._saved = float("inf")


def _identity(file: Path) -> dict[str, int | str]:
    status = file.stat()
    return {"size_bytes": status.st_size, "modified_ns": status.st_mtime_ns}
