"""Deleting snapshots: those that were written here, and no others.

A copy of a data folder has the identity of the store that it was copied from, and
so the same place in a location that both use. It takes snapshots beside the
original's, may open what both know, and deletes only what it wrote itself: neither takes
from the other what it would be opened from.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import xxhash

from services.retriever.snapshots.layout import Layout
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.manifest import is_by, object_name, taken_ns
from services.retriever.snapshots.taking import read_manifest
from sirdar.errors import SirdarError


def writer_of(data_folder: Path) -> str:
    """Tells a data folder from its copies, in 16 hex digits: by its host, its file system, and
    where it is there, which no copy keeps all."""
    status, system = data_folder.stat(), os.statvfs(data_folder)
    place = (socket.gethostname(), data_folder.resolve(), system.f_fsid, status.st_ino)
    return xxhash.xxh3_64_hexdigest(" ".join(map(str, place)).encode())


def keep_last(location: SnapshotLocation, layout: Layout, keep: Sequence[str], writer: str) -> None:
    """Deletes every other snapshot that the writer took of the generation, then what is in none
    that stays.

    Called while no snapshot of the generation is being taken here. Where one
    that stays cannot be read, its files are not known and all stay.
    """
    names = location.names(layout.manifests)
    gone = [name for name in names if is_by(name, writer) and name not in keep]
    staying = [name for name in names if taken_ns(name) and name not in gone]
    kept = _objects(location, layout, staying)
    if _is_shared(names, writer):
        # Whatever else is there may be of a snapshot that another is taking.
        spare = _objects(location, layout, gone)
    else:
        spare = set(location.names(layout.objects))
        gone = [name for name in names if name not in staying]
    location.delete([f"{layout.manifests}/{name}" for name in gone])
    location.delete([f"{layout.objects}/{name}" for name in sorted(spare - kept)])


def delete_all(location: SnapshotLocation, layout: Layout, writer: str) -> None:
    """Deletes what the writer has of a generation that is gone."""
    if _is_shared(location.names(layout.manifests), writer):
        keep_last(location, layout, (), writer)
    else:
        location.delete_folder(layout.folder)


def _is_shared(names: dict[str, int], writer: str) -> bool:
    return any(taken_ns(name) and not is_by(name, writer) for name in names)


def _objects(location: SnapshotLocation, layout: Layout, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        try:
            manifest = read_manifest(location, layout, name)
        except SirdarError:
            if name not in location.names(layout.manifests):
                # Another that shares the store has just deleted it.
                continue
            raise
        found.update(object_name(file) for shard in manifest.shards for file in shard.files)
    return found
