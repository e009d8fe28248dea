"""Runs the processes that build indexes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_POLL_SECONDS = 0.05


class BuildFailed(Exception):
    """A build did not give a segment; it is tried again."""


def run_child(module: str, *arguments: str, errors: Path, stopped: Callable[[], bool]) -> bytes:
    """What `python -m module` prints. The child ends with this process, or when `stopped`.

    Raises BuildFailed with the last line of what it wrote to `errors`.
    """
    with errors.open("w+") as written:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=written,
        )
        try:
            while child.poll() is None:
                if stopped():
                    raise BuildFailed("stopped")
                time.sleep(_POLL_SECONDS)
        finally:
            child.kill()
            output, _ = child.communicate()
        if child.returncode != 0:
            written.seek(0)
            lines = written.read().strip().splitlines()
            raise BuildFailed(lines[-1] if lines else f"exit status {child.returncode}")
    return output
