"""The files of a shard's sealed segments, and the manifest that says which of them count.

All of it is derived from the store: what is missing or damaged is built again.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import structlog

from services.retriever.built import BuiltFile, BuiltIndex, durable
from services.retriever.checksum import checksum
from services.retriever.durable_files import write_durably
from services.retriever.sealed import SealedView
from services.retriever.sealed_segment import SealedSegment, SegmentFiles
from services.retriever.segment_manifest import (
    FORMAT_VERSION,
    SegmentEntry,
    SegmentFile,
    SegmentManifest,
    pack_live,
    unpack_live,
)
from sirdar.errors import DataLoss

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class SealedState:
    """The sealed segments of a shard; the store's log beyond `covered_seq` is to be replayed."""

    views: tuple[SealedView, ...]
    covered_seq: int


@dataclass(frozen=True, slots=True)
class HeldFiles:
    """The content of a manifest, empty where nothing is sealed, and what it names, open."""

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
        self._segments: dict[str, SegmentEntry] = {}
        # What counts, whatever became of the file that says so.
        self._manifest: SegmentManifest | None = None
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
        covered_seq = manifest.covered_seq if manifest and whole else 0
        self._manifest = self._manifest_of(views, covered_seq) if views else None
        return SealedState(tuple(views), covered_seq)

    def build_folder(self, name: str) -> Path:
        """An empty folder to build in; what a crash leaves of it goes at the next start."""
        folder = self.path / f"{name}.building"
        folder.mkdir(parents=True)
        return folder

    def adopt(self, folder: Path, name: str, built: BuiltIndex) -> SealedSegment:
        """Maps a built segment, and makes its files those of the shard.

        Raises DataLoss when they do not fit, OSError.
        """
        rows = durable(folder / "rows.npy")

        def take(made: str, ending: str, file: BuiltFile | None) -> SegmentFile | None:
            return self._take(folder / made, name + ending, file) if file else None

        entry = SegmentEntry(
            index=self._take(folder / "index.faiss", f"{name}.faiss", built.index),
            rows=self._take(folder / "rows.npy", f"{name}.npy", rows),
            exact=take("vectors.faiss", ".fp16.faiss", built.vectors),
            centroids=take("centroids.faiss", ".centroids", built.centroids),
            cells=take("cells.npy", ".cells", built.cells),
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
        manifest = self._manifest_of(views, covered_seq)
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock:
            write_durably(self.path / _MANIFEST, manifest.content())
            self._manifest = manifest
            for name in set(self._segments).difference(view.segment.name for view in views):
                # A merge took its place; searches that are under way keep their mapping.
                for file in self._segments.pop(name).files:
                    (self.path / file.name).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[HeldFiles]:
        """The files of the manifest, open inside the block: a merge leaves them to it.

        Raises OSError.
        """
        with ExitStack() as stack:
            with self._lock:
                manifest = self._manifest
                files = tuple(
                    (file, stack.enter_context((self.path / file.name).open("rb")))
                    for file in (manifest.files if manifest else ())
                )
            yield HeldFiles(
                manifest.content() if manifest else b"",
                manifest.covered_seq if manifest else 0,
                files,
            )

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

    def _map(self, entry: SegmentEntry) -> SealedSegment:
        def path(file: SegmentFile | None) -> Path | None:
            return self.path / file.name if file else None

        files = SegmentFiles(
            self.path / entry.index.name,
            self.path / entry.rows.name,
            path(entry.exact),
            path(entry.centroids),
            path(entry.cells),
        )
        name = entry.index.name.removesuffix(".faiss")
        return SealedSegment.open(name, files, entry.kind, entry.note, self._dimensions)

    def _read_manifest(self) -> SegmentManifest | None:
        try:
            return self._parse((self.path / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DataLoss) as error:
            log.warning("segments are built again", folder=str(self.path), error=str(error))
            return None

    def _parse(self, content: bytes) -> SegmentManifest:
        manifest = SegmentManifest.parse(content)
        mine = (self._generation_key, self._shard, self._index_kind)
        if mine != (manifest.generation_key, manifest.shard, manifest.index_kind):
            raise DataLoss(f"the segments of {self.path} are of another shard")
        return manifest

    def _manifest_of(self, views: Sequence[SealedView], covered_seq: int) -> SegmentManifest:
        return SegmentManifest(
            format=FORMAT_VERSION,
            generation_key=self._generation_key,
            shard=self._shard,
            index_kind=self._index_kind,
            covered_seq=covered_seq,
            segments=tuple(
                self._segments[view.segment.name].model_copy(
                    update={"live": pack_live(view.live_bits)}
                )
                for view in views
            ),
        )

    def _open_segment(self, entry: SegmentEntry) -> SealedView | None:
        try:
            for file in entry.files:
                path = self.path / file.name
                if path.stat().st_size != file.bytes or checksum(path) != file.checksum:
                    raise DataLoss(f"{path} is damaged")
            segment = self._map(entry)
            segment.touch()
            return SealedView(segment, unpack_live(entry.live))
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
