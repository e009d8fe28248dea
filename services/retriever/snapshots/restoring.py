"""Taking the sealed segments of a shard from a snapshot instead of building them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import structlog
import xxhash

from services.retriever.segment_manifest import SegmentFile
from services.retriever.shard_folder import ShardFolder
from services.retriever.snapshots.layout import Layout
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.manifest import SnapshotShard, object_name
from sirdar.errors import DataLoss

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def restore(
    location: SnapshotLocation,
    layout: Layout,
    shard: SnapshotShard,
    folder: ShardFolder,
    suspects: set[str],
) -> None:
    """Puts a shard of a snapshot into its folder, which is to be opened again.

    All of it is there and has its checksum, or nothing was changed and it
    raises: DataLoss where the snapshot is damaged or of another shard (the
    object is then among the `suspects`), OSError where the disk is full, and
    what `SnapshotLocation` raises.
    """
    manifest = shard.manifest.encode()
    needed = folder.needs(manifest)
    into = folder.build_folder("restore")
    try:
        for file in needed:
            name = object_name(file)
            try:
                _download(location.chunks(f"{layout.objects}/{name}"), file, into / file.name)
            except DataLoss:
                suspects.add(name)
                raise
        folder.replace(manifest, into)
    finally:
        shutil.rmtree(into, ignore_errors=True)


def _download(chunks: Iterator[bytes], file: SegmentFile, into: Path) -> None:
    digest = xxhash.xxh3_128()
    size = 0
    with into.open("wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > file.bytes:
                break
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if size != file.bytes or digest.hexdigest() != file.checksum:
        raise DataLoss(f"{file.name} in the snapshot is damaged")
