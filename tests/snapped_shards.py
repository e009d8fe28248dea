"""Shards over a real store with snapshots somewhere, and what is in these."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.retention import writer_of
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.snapshots.taking import Snapshot
from tests.opened_shards import Opened, by_document

KEPT = 2


class Snapped(Opened):
    """A catalog over a store in a folder, with snapshots somewhere."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(exist_ok=True)
        self.snapshots = Snapshots(SnapshotLocation(url), kept=KEPT, writer=writer_of(folder))
        super().__init__(folder, snapshots=self.snapshots)

    def take(self) -> Snapshot:
        return self.snapshots.submit(self.collection, self.store, self.books.shards).result()

    def close(self) -> None:
        self.snapshots.close()
        super().close()


@contextmanager
def snapped(folder: Path, url: str) -> Iterator[Snapped]:
    it = Snapped(folder, url)
    try:
        yield it
    finally:
        it.close()


def filled(it: Snapped, count: int = 600) -> dict[str, NDArray[np.float16]]:
    ids = [f"d{at}" for at in range(count)]
    live = by_document(ids, it.index(ids, seed=1))
    it.seal()
    assert all(shard.sealed_segments for shard in it.books.shards)
    return live


def lose_segments(folder: Path) -> None:
    shutil.rmtree(folder / "segments")


def restored() -> float:
    return REGISTRY.get_sample_value("sirdar_retriever_shards_restored_total") or 0.0


def refused() -> float:
    return REGISTRY.get_sample_value("sirdar_retriever_shards_not_restored_total") or 0.0


def objects(url: str, part: str = "objects") -> dict[str, int]:
    """Names and sizes, of the one store and generation."""
    found = {}
    location = SnapshotLocation(url)
    fs, root = location._fs, location._root
    for path, detail in fs.find(root, detail=True).items():
        if f"/{part}/" in path:
            found[path] = detail["size"]
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
