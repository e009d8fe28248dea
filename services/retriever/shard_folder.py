"""The files of a shard's sealed segments, and the manifest that says which of them count.

All of it is derived from the store: what is missing or damaged is built again.
"""

import base64
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.retriever.build import BuiltFile, BuiltIndex
from services.retriever.checksum import checksum
from services.retriever.sealed import SealedView
from services.retriever.sealed_segment import SealedSegment, SegmentFiles
from sirdar.errors import DataLoss

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FORMAT_VERSION = 2
_MANIFEST = "manifest.json"


class SegmentFile(BaseModel):
    """A file of a shard; `checksum` is that of `checksum.checksum`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Never a path that leads elsewhere: manifests come from other machines too.
    name: str = Field(pattern=r"^[0-9A-Za-z_-][0-9A-Za-z_.-]*$")
    bytes: int
    checksum: str


class _Segment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    index: SegmentFile
    rows: SegmentFile
    # float16 vectors beside a quantized index.
    exact: SegmentFile | None = None
    vectors: int
    # In format 1 the kind of all segments is the manifest's.
    kind: str = ""
    # Why the kind is not the one that the collection asks for.
    note: str = ""
    # Base64 of the deflated bitmap of live rows; empty: all.
    live: str

    @property
    def files(self) -> tuple[SegmentFile, ...]:
        return tuple(file for file in (self.index, self.rows, self.exact) if file)


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    generation_key: int
    shard: int
    index_kind: str
    # All that was written up to here is in the segments, less what died since.
    covered_seq: int
    segments: tuple[_Segment, ...]

    @property
    def files(self) -> tuple[SegmentFile, ...]:
        return tuple(file for segment in self.segments for file in segment.files)


@dataclass(frozen=True, slots=True)
class SealedState:
    """The sealed segments of a shard; the store's log beyond `covered_seq` is to be replayed."""

    views: tuple[SealedView, ...]
    covered_seq: int


@dataclass(frozen=True, slots=True)
class HeldFiles:
    """A manifest as it is on disk, empty where there is none, and what it names, open."""

    manifest: bytes
    covered_seq: int
    files: tuple[tuple[SegmentFile, BinaryIO], ...]


class ShardFolder:
    """`record` is called by one thread, `held` by any; the rest while the shard is opened."""

    def __init__(
        self, path: Path, generation_key: int, shard: int, index_kind: str, dimensions: int
    ) -> None:
        self.path = path
        # The words of the shard; not of the segments, and looked after elsewhere.
        self.lexical = path / "lexical"
        self._generation_key = generation_key
        self._shard = shard
        self._index_kind = index_kind
        self._dimensions = dimensions
        # The entry of each segment, less what is dead in it.
        self._segments: dict[str, _Segment] = {}
        # Of the manifest and of taking away what it does not name any more.
        self._lock = Lock()

    @property
    def segment_bytes(self) -> int:
        """What the sealed segments take on disk."""
        return sum(file.bytes for entry in self._segments.copy().values() for file in entry.files)

    def open(self, committed_seq: int) -> SealedState:
        """Maps the segments that are whole, removes every other file.

        When one is not whole the log is replayed from its start, which puts
        what is missing into the growing segment and leaves the rest alone.
        Segments that are ahead of the store's `committed_seq` are of another
        past than the store, which was restored from a backup, and are removed.
        """
        manifest = self._read_manifest()
        if manifest is not None and manifest.covered_seq > committed_seq:
            log.warning("segments are ahead of the store", folder=str(self.path))
            manifest = None
        views: list[SealedView] = []
        self._segments = {}
        whole = True
        for segment in manifest.segments if manifest else ():
            view = self._open_segment(segment)
            if view is None:
                whole = False
            else:
                views.append(view)
                self._segments[view.segment.name] = segment
        self._remove_strangers()
        return SealedState(tuple(views), manifest.covered_seq if manifest and whole else 0)

    def build_folder(self, name: str) -> Path:
        """An empty folder to build in; what a crash leaves of it goes at the next start."""
        folder = self.path / f"{name}.building"
        folder.mkdir(parents=True)
        return folder

    def adopt(self, folder: Path, name: str, built: BuiltIndex) -> SealedSegment:
        """Maps a built segment, and makes its files those of the shard.

        Raises DataLoss when they do not fit, OSError.
        """
        with (folder / "rows.npy").open("rb") as file:
            os.fsync(file.fileno())
        rows = BuiltFile(
            bytes=(folder / "rows.npy").stat().st_size, checksum=checksum(folder / "rows.npy")
        )
        entry = _Segment(
            index=self._take(folder / "index.faiss", f"{name}.faiss", built.index),
            rows=self._take(folder / "rows.npy", f"{name}.npy", rows),
            exact=(
                self._take(folder / "vectors.faiss", f"{name}.fp16.faiss", built.vectors)
                if built.vectors
                else None
            ),
            vectors=0,
            kind=built.kind,
            note=built.note,
            live="",
        )
        segment = self._map(entry)
        self._segments[name] = entry.model_copy(update={"vectors": len(segment.ids)})
        return segment

    def record(self, views: Sequence[SealedView], covered_seq: int) -> None:
        """Writes the manifest, all or nothing. Raises OSError."""
        manifest = _Manifest(
            format=FORMAT_VERSION,
            generation_key=self._generation_key,
            shard=self._shard,
            index_kind=self._index_kind,
            covered_seq=covered_seq,
            segments=tuple(
                self._segments[view.segment.name].model_copy(update={"live": _pack(view.live_bits)})
                for view in views
            ),
        )
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock:
            write_durably(self.path / _MANIFEST, manifest.model_dump_json(indent=1).encode())
            for name in set(self._segments).difference(view.segment.name for view in views):
                # A merge took its place; searches that are under way keep their mapping.
                for file in self._segments.pop(name).files:
                    (self.path / file.name).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[HeldFiles]:
        """The files of the manifest, open inside the block: a merge leaves them to it.

        Raises OSError, DataLoss where the manifest is damaged.
        """
        with ExitStack() as stack:
            with self._lock:
                try:
                    content = (self.path / _MANIFEST).read_bytes()
                except FileNotFoundError:
                    held = HeldFiles(b"", 0, ())
                else:
                    manifest = self._parse(content)
                    files = tuple(
                        (file, stack.enter_context((self.path / file.name).open("rb")))
                        for file in manifest.files
                    )
                    held = HeldFiles(content, manifest.covered_seq, files)
            yield held

    def needs(self, manifest: bytes) -> list[SegmentFile]:
        """The files of a manifest that are not here.

        Raises DataLoss where it is damaged, of another shard or of another format.
        """
        here = {file.name: file for entry in self._segments.values() for file in entry.files}
        return [file for file in self._parse(manifest).files if here.get(file.name) != file]

    def replace(self, manifest: bytes, folder: Path) -> None:
        """Takes a manifest, with the files that were needed and are now in `folder`, in the
        place of what is here; to be opened again. Raises DataLoss, OSError."""
        for file in self.needs(manifest):
            (folder / file.name).rename(self.path / file.name)
        write_durably(self.path / _MANIFEST, manifest)

    def _take(self, file: Path, name: str, built: BuiltFile) -> SegmentFile:
        file.rename(self.path / name)
        return SegmentFile(name=name, bytes=built.bytes, checksum=built.checksum)

    def _map(self, entry: _Segment) -> SealedSegment:
        files = SegmentFiles(
            self.path / entry.index.name,
            self.path / entry.rows.name,
            self.path / entry.exact.name if entry.exact else None,
        )
        name = entry.index.name.removesuffix(".faiss")
        return SealedSegment.open(name, files, entry.kind, entry.note, self._dimensions)

    def _read_manifest(self) -> _Manifest | None:
        try:
            return self._parse((self.path / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DataLoss) as error:
            log.warning("segments are built again", folder=str(self.path), error=str(error))
            return None

    def _parse(self, content: bytes) -> _Manifest:
        try:
            manifest = _Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DataLoss(f"the manifest of {self.path} is damaged: {error}") from error
        mine = (self._generation_key, self._shard, self._index_kind)
        theirs = (manifest.generation_key, manifest.shard, manifest.index_kind)
        if mine != theirs or not 1 <= manifest.format <= FORMAT_VERSION:
            raise DataLoss(f"the segments of {self.path} are of another shard or format")
        if manifest.format == FORMAT_VERSION:
            return manifest
        kind = {"kind": manifest.index_kind}
        segments = tuple(entry.model_copy(update=kind) for entry in manifest.segments)
        return manifest.model_copy(update={"segments": segments})

    def _open_segment(self, entry: _Segment) -> SealedView | None:
        try:
            for file in entry.files:
                path = self.path / file.name
                if path.stat().st_size != file.bytes or checksum(path) != file.checksum:
                    raise DataLoss(f"{path} is damaged")
            segment = self._map(entry)
            segment.touch()
            return SealedView(segment, _unpack(entry.live))
        except (OSError, ValueError, RuntimeError, DataLoss) as error:
            log.warning("a segment is built again", folder=str(self.path), error=str(error))
            return None

    def _remove_strangers(self) -> None:
        mine = {file.name for entry in self._segments.values() for file in entry.files}
        mine.add(_MANIFEST)
        if not self.path.is_dir():
            return
        for path in self.path.iterdir():
            if path == self.lexical:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in mine:
                with suppress(OSError):
                    path.unlink()


def write_durably(file: Path, content: bytes) -> None:
    """Replaces the file: after a crash it is the old or the new one, whole."""
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pack(bits: NDArray[np.uint8] | None) -> str:
    return "" if bits is None else base64.b64encode(zlib.compress(bits.tobytes())).decode()


def _unpack(live: str) -> NDArray[np.uint8] | None:
    if not live:
        return None
    # A copy, because FAISS wants to own a writable array.
    return np.frombuffer(zlib.decompress(base64.b64decode(live)), np.uint8).copy()
