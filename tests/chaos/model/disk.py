"""A small file system of its own, and operations that fill it. Needs root."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.model.world import World

_SIZE = "48m"
_STEP_BYTES = 2**16


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mounts a file system of 48 MB at the folder for the block."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@dataclass(frozen=True)
class FullDisk:
    """For a while there is no space; kills may fall into it."""

    lane: str
    seconds: float

    async def perform(self, world: World) -> str:
        filler = world.folder / "filler"
        world.full = True
        try:
            written = await asyncio.to_thread(_fill, filler)
            await asyncio.sleep(self.seconds)
        finally:
            filler.unlink(missing_ok=True)
        # Calls that met it are answered by then, or see that there is space again.
        await asyncio.sleep(self.seconds)
        world.full = False
        world.counts["full disks"] += 1
        return f"filled with {written} bytes"


def _fill(filler: Path) -> int:
    """Writes until nothing more fits; answers how many bytes."""
    written = 0
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                written += file.write(bytes(_STEP_BYTES))
            except OSError:
                return written
