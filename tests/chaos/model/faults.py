"""Ends of the process, and when they come."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.chaos.model.damage import Damage
from tests.chaos.model.world import World

_WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.002


class Aim(Enum):
    """In the middle of what the process is to be killed."""

    SOON = "whatever is under way"
    BUILD = "a build"
    ADOPTION = "the adoption of a built segment"
    WORDS = "a commit of words"
    DROP = "the deletion of a collection"
    SNAPSHOT = "a snapshot"


@dataclass(frozen=True)
class End:
    """The end of the process, by SIGKILL or by SIGTERM (`kill` False), and the damage that is
    done before it starts again."""

    kill: bool
    aim: Aim
    delay_seconds: float
    damage: Damage
    number: int

    async def wait(self, world: World, folder: Path) -> None:
        """Until the moment has come; not for ever, as it may not come."""
        if self.aim is not Aim.SOON:
            await _until(_sign(self.aim, world, folder))
        if self.aim not in (Aim.ADOPTION, Aim.SNAPSHOT):
            await asyncio.sleep(self.delay_seconds)


async def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    # Files have no event to wait for.
    while not reached() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


def _sign(aim: Aim, world: World, folder: Path) -> Callable[[], bool]:
    """What shows that the moment has come."""
    if aim is Aim.DROP:
        return lambda: world.under_way["drop"] > 0
    if aim is Aim.SNAPSHOT:
        return lambda: world.under_way["snapshot"] > 0
    if aim is Aim.BUILD:
        return lambda: any(name.endswith(".building") for name in _names(folder))
    ending = ".faiss" if aim is Aim.ADOPTION else ".tmp"
    before = {name for name in _names(folder) if name.endswith(ending)}
    return lambda: any(name.endswith(ending) and name not in before for name in _names(folder))


def _names(folder: Path) -> Iterator[str]:
    """Of everything in the folders of shards: segments/GENERATION/SHARD, and their words."""
    for generation in _entries(folder / "segments"):
        for shard in _entries(generation):
            for path in _entries(shard):
                yield path.name
            for path in _entries(shard / "lexical"):
                yield path.name


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]  # noqa: PTH208 - at 500 Hz
    except (FileNotFoundError, NotADirectoryError):
        return []
