"""Files and folders that are there after a crash of the machine."""

import os
from pathlib import Path


def write_durably(file: Path, content: bytes) -> None:
    """Replaces the file: after a crash it is the old or the new one, whole. Raises OSError."""
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Waits until what was made, renamed or removed in a folder is on the disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
