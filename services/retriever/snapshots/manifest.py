"""What a snapshot says of itself."""

import re

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from services.retriever.segment_manifest import SegmentFile
from services.retriever.store.records import Collection
from sirdar.errors import DataLoss

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 256 * 2**20
"""Bitmaps of what is live in a billion vectors fit."""

# The writer is not in the names of snapshots of before 1.0.
_NAME = re.compile(r"(?P<taken>\d{20})(-(?P<writer>[0-9a-f]{16}))?-(?P<digest>[0-9a-f]{32})\.json")


class SnapshotShard(BaseModel):
    """A shard as its folder had it; `manifest` is the folder's own, empty where nothing of the
    shard is sealed, or the shard was not where the snapshot was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shard: int
    covered_seq: int
    manifest: str
    files: tuple[SegmentFile, ...]


class SnapshotOf(BaseModel):
    """What a snapshot must be of, to be used for a generation of a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    store: str
    generation_key: int
    collection_created_ns: int
    fingerprint: str
    dimensions: int
    similarity: str
    index_kind: str
    shards: int

    @classmethod
    def collection(cls, collection: Collection, store: str) -> "SnapshotOf":
        generation = collection.generation
        return cls(
            format=FORMAT_VERSION,
            store=store,
            generation_key=generation.key,
            collection_created_ns=collection.created_ns,
            fingerprint=generation.space.fingerprint,
            dimensions=generation.space.dimensions,
            similarity=generation.similarity.value,
            index_kind=generation.index_kind,
            shards=generation.shards,
        )


class SnapshotManifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    of: SnapshotOf
    namespace: str
    collection: str
    taken_ns: int
    shards: tuple[SnapshotShard, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.bytes for shard in self.shards for file in shard.files)

    def named(self, writer: str) -> tuple[str, bytes]:
        """The name, which has who wrote it and the content's checksum, and the content."""
        content = self.model_dump_json(indent=1).encode()
        digest = xxhash.xxh3_128_hexdigest(content)
        return f"{self.taken_ns:020d}-{writer}-{digest}.json", content

    @classmethod
    def parse(cls, name: str, content: bytes) -> "SnapshotManifest":
        """Raises DataLoss where it is cut, changed, or of a format that we do not know."""
        match = _NAME.fullmatch(name)
        if match is None or match["digest"] != xxhash.xxh3_128_hexdigest(content):
            raise DataLoss(f"the snapshot {name} is damaged")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise DataLoss(f"the snapshot {name} is of another format") from error


def taken_ns(name: str) -> int:
    """When a snapshot was taken, from its name; 0 where that is not one."""
    match = _NAME.fullmatch(name)
    return int(match["taken"]) if match else 0


def is_by(name: str, writer: str) -> bool:
    """Whether it is the name of a snapshot of this writer."""
    match = _NAME.fullmatch(name)
    return match is not None and match["writer"] == writer


def object_name(file: SegmentFile) -> str:
    """Files of the same content are one object, whichever snapshots they are in."""
    return f"{file.checksum}-{file.bytes}"
