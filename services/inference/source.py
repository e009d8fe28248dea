"""Where a model's files come from: an installed package, a folder, or the Hugging Face hub."""

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from services.inference.fingerprint import saved_kind
from sirdar.errors import FailedPrecondition, NotFound, SirdarError

# Formats that sentence-transformers does not read, and are as large as the weights.
_UNUSED_FILES = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.pb"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model as a user names it: `package:`, `path:`, an existing folder, or a hub name."""

    name: str
    revision: str = ""

    @property
    def label(self) -> str:
        """The name in metrics, where two revisions of a model are apart."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


def model_folder(source: ModelSource) -> Path:
    """The folder with the model's `modules.json`; fetches it from the hub where needed.

    Raises NotFound when there is no such package, folder or hub model, and
    FailedPrecondition when it is not a sentence-transformers model or the hub
    cannot be reached.
    """
    folder = find_folder(source, "modules.json")
    if not (folder / "modules.json").is_file():
        raise FailedPrecondition(
            f"model {source.name}: {folder} has no modules.json, so it is not a "
            "sentence-transformers model; save it with SentenceTransformer.save_pretrained",
            reason="MODEL_NOT_LOADABLE",
        )
    if saved_kind(folder) == "CrossEncoder":
        # sentence-transformers would make vectors of it, by a pooling that it never had.
        raise FailedPrecondition(
            f"model {source.name}: it is a cross-encoder, which gives pairs scores and texts no "
            "vectors: the reranker serves it; name a bi-encoder",
            reason="MODEL_IS_CROSS_ENCODER",
        )
    return folder


def find_folder(source: ModelSource, marker: str) -> Path:
    """An existing folder with the model's files; errors as `model_folder`.

    In a package it is the outermost that holds a file named `marker`.
    """
    kind, _, rest = source.name.partition(":")
    if kind == "package" and rest:
        return _package_folder(rest, marker)
    if kind == "path" and rest:
        folder = Path(rest).expanduser()
    elif Path(source.name).is_dir():
        folder = Path(source.name)
    else:
        folder = _hub_folder(source)
    if not folder.is_dir():
        raise NotFound(
            f"model {source.name}: there is no folder {folder}; give the folder of a "
            "sentence-transformers model",
            reason="MODEL_NOT_FOUND",
        )
    return folder


def _package_folder(package: str, marker: str) -> Path:
    # The package is not imported: its metadata lists its files.
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise NotFound(
            f"model package:{package}: the package is not installed; run: pip install {package}",
            reason="MODEL_NOT_FOUND",
        ) from error
    markers = [file for file in distribution.files or () if file.name == marker]
    for file in sorted(markers, key=lambda file: len(file.parts)):
        path = Path(str(distribution.locate_file(file)))
        if path.is_file():
            return path.parent
    raise FailedPrecondition(
        f"model package:{package}: the installed package holds no sentence-transformers model "
        f"(no {marker}); reinstall it or name another",
        reason="MODEL_NOT_LOADABLE",
    )


def _hub_folder(source: ModelSource) -> Path:
    # Read when huggingface_hub is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import huggingface_hub  # noqa: PLC0415 - a start from a package or folder does without
    from huggingface_hub import errors  # noqa: PLC0415

    def fetch(unused: list[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                source.name, revision=source.revision or None, ignore_patterns=unused
            )
        )

    try:
        folder = fetch([*_UNUSED_FILES, "*.bin"])
        # Older models have their weights in pickles only.
        return folder if any(folder.rglob("*.safetensors")) else fetch(_UNUSED_FILES)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _unknown(source) from error
    except errors.HFValidationError as error:
        raise _unknown(source) from error
    except OSError as error:  # no network, offline mode, a hub in trouble, a full disk
        raise FailedPrecondition(
            f"model {source.name}: not in the local hub cache, and the hub cannot be reached "
            f"({type(error).__name__}); fetch it where there is a network, or use path:/folder "
            "or package:name",
            reason="MODEL_NOT_FETCHED",
        ) from error


def _unknown(source: ModelSource) -> SirdarError:
    revision = f" at revision {source.revision}" if source.revision else ""
    return NotFound(
        f"model {source.name}: there is no such folder, and the hub has no such model{revision}; "
        "check the name, or use path:/folder or package:name",
        reason="MODEL_NOT_FOUND",
    )
