"""The folder that holds everything of a retriever, owned by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.retriever.durable_files import sync_folder
from sirdar.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class DataFolder:
    path: Path

    @property
    def database(self) -> Path:
        return self.path / "store.sqlite3"

    @property
    def segments(self) -> Path:
        """Derived files: may be deleted while no process runs, and are built again."""
        return self.path / "segments"


@contextmanager
def own(path: Path) -> Iterator[DataFolder]:
    """Creates the folder where needed and owns it inside the block.

    The kernel drops the lock with the process, however it ends. Raises
    FailedPrecondition when another process owns the folder or it cannot be
    written to.
    """
    try:
        _make(path)
        lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot use the data folder {path}: {error.strerror}; choose another",
            reason="BAD_DATA_FOLDER",
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 32, 0).decode().strip() or "unknown"
            raise FailedPrecondition(
                f"the data folder {path} is in use by process {owner}; stop it or choose "
                "another folder",
                reason="DATA_FOLDER_IN_USE",
                metadata={"folder": str(path), "pid": owner},
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield DataFolder(path)
    finally:
        os.close(lock)


def _make(path: Path) -> None:
    """What is acknowledged in a folder is only there after a crash when the folder is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for parent in {path.parent, *(folder.parent for folder in missing)}:
        # One that may be passed through but not be read was made by another, who saw to it.
        with suppress(PermissionError):
            sync_folder(parent)
