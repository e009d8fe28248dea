"""Files that are replaced while a process runs, such as certificates."""

from pathlib import Path

_State = tuple[int, int, int, int] | None


class WatchedFiles:
    """Tells when one of them has been written or replaced, also by way of a link."""

    def __init__(self, *files: Path | None) -> None:
        self._files = [file for file in files if file is not None]
        self._seen = self._look()

    def changed(self) -> bool:
        """Since the last call, or since it was made. Takes a few microseconds a file."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    def _look(self) -> list[_State]:
        return [_state(file) for file in self._files]


def _state(file: Path) -> _State:
    try:
        found = file.stat()
    except OSError:
        return None
    # The time of a change of rights, too: then a file may be read that could not be.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
