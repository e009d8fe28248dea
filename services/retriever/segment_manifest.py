"""What a shard's folder says of its sealed segments."""

import base64
import zlib

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from services.retriever.checksum import checked, with_checksum
from sirdar.errors import DataLoss

# 1 has one kind for all segments. 1 and 2 have no checksum of their own. Up to 3 no segment has
# cells.
FORMAT_VERSION = 4


class SegmentFile(BaseModel):
    """A file of a shard; `checksum` is that of `checksum.checksum`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Never a path that leads elsewhere: manifests come from other machines too.
    name: str = Field(pattern=r"^[0-9A-Za-z_-][0-9A-Za-z_.-]*$")
    bytes: int
    checksum: str


class SegmentEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    index: SegmentFile
    rows: SegmentFile
    # float16 vectors beside a quantized index.
    exact: SegmentFile | None = None
    # The cells beside a graph: both or none.
    centroids: SegmentFile | None = None
    cells: SegmentFile | None = None
    vectors: int
    # In format 1 the kind of all segments is the manifest's.
    kind: str = ""
    # Why the kind is not the one that the collection asks for.
    note: str = ""
    # Base64 of the deflated bitmap of live rows; empty: all.
    live: str

    @property
    def files(self) -> tuple[SegmentFile, ...]:
        own = (self.index, self.rows, self.exact, self.centroids, self.cells)
        return tuple(file for file in own if file)


class SegmentManifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    generation_key: int
    shard: int
    index_kind: str
    # All that was written up to here is in the segments, less what died since.
    covered_seq: int
    segments: tuple[SegmentEntry, ...]

    @property
    def files(self) -> tuple[SegmentFile, ...]:
        return tuple(file for segment in self.segments for file in segment.files)

    def content(self) -> bytes:
        """As it is kept in a file."""
        return with_checksum(self.model_dump_json(indent=1).encode())

    @classmethod
    def parse(cls, content: bytes) -> "SegmentManifest":
        """Raises DataLoss where it is damaged or of a format that we do not know."""
        try:
            text = checked(content)
            manifest = cls.model_validate_json(content if text is None else text)
        except ValueError as error:
            raise DataLoss(f"a manifest of segments is damaged: {error}") from error
        if not 1 <= manifest.format <= FORMAT_VERSION:
            raise DataLoss(f"format {manifest.format} of segments is not known")
        if manifest.format >= 3 and text is None:
            raise DataLoss("a manifest of segments has lost its checksum")
        if manifest.format > 1:
            return manifest
        kind = {"kind": manifest.index_kind}
        segments = tuple(entry.model_copy(update=kind) for entry in manifest.segments)
        return manifest.model_copy(update={"segments": segments})


def pack_live(bits: NDArray[np.uint8] | None) -> str:
    """The `live` of an entry; `bits` is a bitmap of rows, None: all live."""
    return "" if bits is None else base64.b64encode(zlib.compress(bits.tobytes())).decode()


def unpack_live(live: str) -> NDArray[np.uint8] | None:
    """What was packed. Raises DataLoss."""
    if not live:
        return None
    try:
        content = zlib.decompress(base64.b64decode(live))
    except (ValueError, zlib.error) as error:
        raise DataLoss(f"a bitmap of live rows is damaged: {error}") from error
    # A copy, because FAISS wants to own a writable array.
    return np.frombuffer(content, np.uint8).copy()
