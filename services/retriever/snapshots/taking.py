"""Copying the sealed segments of a collection into a snapshot."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import BinaryIO

import xxhash

from services.retriever.segment_manifest import SegmentFile
from services.retriever.shard_folder import ShardFolder
from services.retriever.snapshots.layout import Layout
from services.retriever.snapshots.location import CHUNK_BYTES, SnapshotLocation
from services.retriever.snapshots.manifest import (
    MAX_MANIFEST_BYTES,
    SnapshotManifest,
    SnapshotOf,
    SnapshotShard,
    object_name,
    taken_ns,
)
from services.retriever.store.records import Collection
from sirdar.errors import DataLoss, Unavailable


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`covered_seqs` has one a shard; `size_bytes` is that of all files, shared ones too."""

    name: str
    url: str
    size_bytes: int
    covered_seqs: tuple[int, ...]


def take(
    location: SnapshotLocation,
    collection: Collection,
    store: str,
    folders: Mapping[int, ShardFolder],
    suspects: set[str],
    closing: Event,
    *,
    writer: str,
) -> Snapshot:
    """Uploads what is not there yet, and the manifest when all else is.

    `folders`: of the shards that are here; of others the snapshot has nothing.

    `suspects` are objects that were found damaged: they are uploaded again,
    and no suspects then. Raises what `SnapshotLocation` raises, DataLoss where
    a file of ours is damaged, Unavailable once `closing` is set.
    """
    layout = Layout(store, collection.generation)
    present = location.names(layout.objects)
    for name in suspects.intersection(present):
        del present[name]
    shards = []
    for number in range(collection.generation.shards):
        folder = folders.get(number)
        if folder is None:
            shards.append(SnapshotShard(shard=number, covered_seq=0, manifest="", files=()))
            continue
        with folder.held() as held:
            for file, content in held.files:
                name = object_name(file)
                if present.get(name) != file.bytes:
                    path = f"{layout.objects}/{name}"
                    _upload(location, path, file, _checked(file, content, closing))
                    present[name] = file.bytes
                    suspects.discard(name)
            shards.append(
                SnapshotShard(
                    shard=number,
                    covered_seq=held.covered_seq,
                    manifest=held.manifest.decode(),
                    files=tuple(file for file, _ in held.files),
                )
            )
    # Also where the clock has jumped back the last one taken is the newest.
    latest = max(map(taken_ns, location.names(layout.manifests)), default=0)
    manifest = SnapshotManifest(
        of=SnapshotOf.collection(collection, store),
        namespace=collection.namespace,
        collection=collection.name,
        taken_ns=max(time.time_ns(), latest + 1),
        shards=tuple(shards),
    )
    name, text = manifest.named(writer)
    path = f"{layout.manifests}/{name}"
    location.put(path, (text,))
    return Snapshot(
        name,
        location.url(path),
        manifest.size_bytes,
        tuple(shard.covered_seq for shard in shards),
    )


def read_manifest(location: SnapshotLocation, layout: Layout, name: str) -> SnapshotManifest:
    """Raises what `SnapshotLocation` raises, DataLoss."""
    content = location.read(f"{layout.manifests}/{name}", MAX_MANIFEST_BYTES)
    return SnapshotManifest.parse(name, content)


def _upload(
    location: SnapshotLocation, path: str, file: SegmentFile, chunks: Iterator[bytes]
) -> None:
    location.put(path, chunks)
    size = location.size(path)
    if size != file.bytes:
        raise Unavailable(
            f"the snapshot location kept {size or 0} of the {file.bytes} bytes of {path}: see "
            "that it works, and retry",
            reason="SNAPSHOT_LOCATION_FAILED",
        )


def _checked(file: SegmentFile, content: BinaryIO, closing: Event) -> Iterator[bytes]:
    """The content; fails before its end where it is not what the manifest says."""
    digest = xxhash.xxh3_128()
    left = file.bytes
    while chunk := content.read(CHUNK_BYTES):
        if closing.is_set():
            raise Unavailable("the retriever is closing; retry on another replica")
        digest.update(chunk)
        left -= len(chunk)
        if left <= 0 and (left < 0 or digest.hexdigest() != file.checksum):
            break
        yield chunk
    if left != 0 or digest.hexdigest() != file.checksum:
        raise DataLoss(
            f"the segment file {file.name} is damaged; restart the retriever, which builds it again"
        )
