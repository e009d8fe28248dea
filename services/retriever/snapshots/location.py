"""A folder or object store that snapshots are in."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from services.retriever.durable_files import sync_folder
from services.retriever.snapshots.impatience import impatient
from sirdar.errors import DataLoss, FailedPrecondition, ResourceExhausted, SirdarError, Unavailable

CHUNK_BYTES = 4 * 2**20
"""What is in memory of a file at a time."""

PATIENCE_SECONDS = 20.0

# Object stores take parts of at least 5 MiB.
_PART_BYTES = 8 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


class _Upload(Protocol):
    """What fsspec opens for writing with `autocommit=False`."""

    def write(self, data: bytes, /) -> int: ...
    def close(self) -> None: ...
    def commit(self) -> None: ...
    def discard(self) -> None: ...


class SnapshotLocation:
    """Named objects beneath a URL that fsspec knows, `file:///...` or `s3://...`.

    Credentials and other options come from the environment, as fsspec and its
    file systems take them. Every method raises FailedPrecondition where the
    location is missing or closed to us, ResourceExhausted where it is full and
    Unavailable where it does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise FailedPrecondition(
                f"cannot use the snapshot_url {url}: {error}; install what it names, or choose "
                "another",
                reason="BAD_SNAPSHOT_URL",
            ) from error
        self._local = isinstance(self._fs, LocalFileSystem)

    def url(self, name: str) -> str:
        return str(self._fs.unstrip_protocol(self._path(name)))

    def names(self, folder: str) -> dict[str, int]:
        """The objects right below a folder, by their names in it, and their sizes in bytes."""
        with self._translated():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
            return {
                str(item["name"]).rsplit("/", 1)[-1]: int(item["size"] or 0)
                for item in found
                if item["type"] == "file"
            }

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Writes an object that is there whole or not at all, whatever happens meanwhile."""
        with self._translated():
            if self._local:
                self._put_durably(Path(self._path(name)), chunks)
                return
            upload = cast(
                _Upload,
                self._fs.open(self._path(name), "wb", block_size=_PART_BYTES, autocommit=False),
            )
            try:
                for chunk in chunks:
                    upload.write(chunk)
                upload.close()
            except BaseException:
                upload.discard()
                raise
            upload.commit()

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of an object, as the location gives it. Raises Unavailable where it gives
        nothing for `PATIENCE_SECONDS`: who opens a shard does not wait for ever."""
        return impatient(self._chunks(name), PATIENCE_SECONDS)

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._translated(), self._open(name) as content:
            while chunk := content.read(CHUNK_BYTES):
                yield chunk

    def size(self, name: str) -> int | None:
        """In bytes; None: there is no such object."""
        with self._translated():
            self._fs.invalidate_cache()
            try:
                return int(self._fs.info(self._path(name))["size"] or 0)
            except FileNotFoundError:
                return None

    def read(self, name: str, most_bytes: int) -> bytes:
        """A whole object. Raises DataLoss where it is larger."""
        content = bytearray()
        for chunk in self.chunks(name):
            content += chunk
            if len(content) > most_bytes:
                raise DataLoss(f"{self.url(name)} is larger than {most_bytes} bytes")
        return bytes(content)

    def delete(self, names: Sequence[str]) -> None:
        """Those that are gone already are left out."""
        with self._translated():
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._path(name))

    def delete_folder(self, folder: str) -> None:
        """With all that is in it, whoever deletes some of it at the same time."""
        path = self._path(folder)
        with self._translated():
            self._fs.invalidate_cache()
            while self._fs.exists(path):
                # Ends at the first file that another deleted just then; each time there are fewer.
                with suppress(FileNotFoundError):
                    self._fs.rm(path, recursive=True)
                self._fs.invalidate_cache()

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        content = self._fs.open(self._path(name), "rb", block_size=CHUNK_BYTES, cache_type="none")
        try:
            yield cast(BinaryIO, content)
        finally:
            content.close()

    def _put_durably(self, file: Path, chunks: Iterable[bytes]) -> None:
        # fsspec writes in place, or moves from /tmp, which may be another disk.
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.tmp")
        try:
            with temporary.open("wb") as out:
                for chunk in chunks:
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            temporary.rename(file)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(file.parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SirdarError:
            raise
        except OSError as error:
            raise self._fault(error) from error
        except Exception as error:
            # Each file system has errors of its own, and all of them mean that it did not work.
            raise self._unavailable(error) from error

    def _fault(self, error: OSError) -> SirdarError:
        where = self._fs.unstrip_protocol(self._root)
        if error.errno in _FULL:
            return ResourceExhausted(
                f"the snapshot location {where} is full: free space there and retry",
                reason="SNAPSHOT_LOCATION_FULL",
            )
        if error.errno in _DENIED or isinstance(error, PermissionError):
            return FailedPrecondition(
                f"the snapshot location {where} refuses access ({error}): grant it, or set "
                "snapshot_url to another",
                reason="SNAPSHOT_LOCATION_DENIED",
            )
        missing = (FileNotFoundError, NotADirectoryError, FileExistsError)
        if error.errno in _MISSING or isinstance(error, missing):
            return FailedPrecondition(
                f"the snapshot location {where} is not there ({error}): create it, or set "
                "snapshot_url to another",
                reason="SNAPSHOT_LOCATION_MISSING",
            )
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> SirdarError:
        where = self._fs.unstrip_protocol(self._root)
        return Unavailable(
            f"the snapshot location {where} failed ({error!r}): see that it can be reached, and "
            "retry",
            reason="SNAPSHOT_LOCATION_FAILED",
        )
