"""Converted models on disk, so that only the first start of a model converts it."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
import structlog
from numpy.typing import NDArray

from services.inference.conversion import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    GRAPH_FILES,
    REFERENCE_FILE,
    TOKENIZER_FILE,
    convert_in_child,
)
from services.inference.fingerprint import file_sha256
from services.inference.golden import golden_bytes
from services.inference.kinds import DescriptionT, ModelKind
from services.inference.recipe import GraphForm, Recipe
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Written last; names every file of the entry with its SHA-256.
_MANIFEST = "manifest.json"
_ABANDONED_SECONDS = 3600.0
# Another version of one of these may convert to another graph.
_CONVERTERS: dict[GraphForm, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
    "onnx": ("onnxscript",),
    "onnx-int8": ("onnxscript", "onnxruntime"),
    "onnx-int8-reduced": ("onnxscript", "onnxruntime"),
    "torch": (),
}
_LOADERS = ("sentence-transformers", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class ConvertedModel(Generic[DescriptionT]):
    """An entry of the cache, its checksums verified."""

    graph_file: Path
    """The folder of the entry where the recipe makes no graph."""
    tokenizer_json: str
    description: DescriptionT
    reference: NDArray[np.float32]
    """What sentence-transformers makes of the known inputs, [inputs, dimensions]."""


def converted_model(
    kind: ModelKind[DescriptionT],
    recipe: Recipe,
    cache_folder: Path,
    model_folder: Path,
    digest: str,
) -> ConvertedModel[DescriptionT]:
    """The converted form of a model with that content digest; converts it where there is none.

    Safe with several processes at once: each writes its own folder and renames
    it into place, and the last one's work is dropped. A torn entry is rebuilt.
    Raises FailedPrecondition when the model cannot be converted or the cache
    folder not be written.
    """
    entry = cache_folder / recipe.form / _key(kind.name, recipe, digest)
    found = _open(kind, recipe, entry)
    if found is not None:
        return found
    log.info("converting the model; later starts find it in the cache", cache=str(entry))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry.parent)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=entry.parent) as work:
            built = Path(work) / "entry"
            built.mkdir()
            convert_in_child(kind, recipe, model_folder, built)
            _seal(built)
            _publish(kind, recipe, built, entry)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot write the converted model to {entry.parent}: {error.strerror}; "
            "free space there or set cache_folder to another folder",
            reason="CACHE_NOT_WRITABLE",
        ) from error
    found = _open(kind, recipe, entry)
    if found is None:
        raise FailedPrecondition(
            f"the converted model in {entry} is damaged right after it was written; "
            "check the disk or set cache_folder to another folder",
            reason="CACHE_NOT_WRITABLE",
        )
    return found


def _key(kind: str, recipe: Recipe, digest: str) -> str:
    versions = [f"{name} {_version(name)}" for name in (*_CONVERTERS[recipe.form], *_LOADERS)]
    parts = json.dumps(
        [
            kind,
            dataclasses.astuple(recipe),
            digest,
            FORMAT_VERSION,
            hashlib.sha256(golden_bytes()).hexdigest(),
            *versions,
        ]
    )
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""  # converting says what is missing


def _open(
    kind: ModelKind[DescriptionT], recipe: Recipe, entry: Path
) -> ConvertedModel[DescriptionT] | None:
    """The entry, None when there is none or it is damaged."""
    try:
        manifest: dict[str, str] = json.loads((entry / _MANIFEST).read_text())
        for name, checksum in manifest.items():
            if file_sha256(entry / name) != checksum:
                log.warning("damaged entry in the model cache; rebuilding it", file=name)
                return None
        return ConvertedModel(
            entry / GRAPH_FILES[recipe.form],
            (entry / TOKENIZER_FILE).read_text(encoding="utf-8"),
            kind.description.from_json((entry / DESCRIPTION_FILE).read_text(encoding="utf-8")),
            np.load(entry / REFERENCE_FILE, allow_pickle=False),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _seal(entry: Path) -> None:
    manifest = {file.name: file_sha256(file) for file in sorted(entry.iterdir())}
    (entry / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def _publish(kind: ModelKind[DescriptionT], recipe: Recipe, built: Path, entry: Path) -> None:
    """Renames a finished entry into place."""
    for _ in range(10):
        try:
            built.rename(entry)
            return
        except OSError:
            if not entry.exists():
                raise
        if _open(kind, recipe, entry) is not None:
            return  # another process was faster
        # Renamed first: two processes that remove a torn entry must not meet in it.
        torn = Path(tempfile.mkdtemp(prefix=".torn-", dir=entry.parent))
        with contextlib.suppress(FileNotFoundError):
            entry.rename(torn / "entry")
        shutil.rmtree(torn, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed while they converted left behind."""
    for leftover in (*folder.glob(".new-*"), *folder.glob(".torn-*")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
