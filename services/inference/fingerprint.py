"""What a model is, as hashes: equal where vectors may be compared, on any machine."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from services.inference.description import ModelDescription
from sirdar.errors import FailedPrecondition

# Places of files and versions of tools, which say nothing about the vectors.
_NOISE = {
    "__version__",
    "_commit_hash",
    "_name_or_path",
    "name_or_path",
    "peft_version",
    "special_tokens_map_file",
    "tokenizer_file",
    "transformers_version",
}
_CONFIGS = (
    "modules.json",
    "config.json",
    # How strongly the weights of an adapter count, and where they are added.
    "adapter_config.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "merges.txt", "*.model")


def content_digest(folder: Path, *, code: bool = False) -> str:
    """SHA-256 in hex of everything in a model's folder that its vectors depend on.

    With `code` that includes Python files, which count where they are run.

    Hashes weights, tokenizer and configuration of each module by their place in
    the model, not by the folder's path; formatting and tool versions in JSON
    files do not count. Raises FailedPrecondition for damaged JSON.
    """
    digest = hashlib.sha256()
    for name, file in _relevant_files(folder, code=code):
        digest.update(f"{name}\0".encode())
        digest.update(_file_digest(file))
    return digest.hexdigest()


def space_fingerprint(digest: str, description: ModelDescription) -> str:
    """The fingerprint of the embedding space, 32 hex digits.

    Engine and precision are not part: their vectors may be compared, and a
    fleet may mix them.
    """
    parts = (digest, description.dimensions, description.max_tokens, description.normalized)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def module_paths(folder: Path) -> list[str]:
    """The folders of a model's modules inside its own; that itself where it is not of modules.

    Raises FailedPrecondition for a damaged modules.json.
    """
    if not (folder / "modules.json").is_file():
        return [""]
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list):
        raise _damaged(folder / "modules.json", "is not a list of modules")
    return sorted({str(module.get("path", "")) for module in modules})


def saved_kind(folder: Path) -> str:
    """`SentenceTransformer` or `CrossEncoder` where the model says what saved it, else empty."""
    file = folder / "config_sentence_transformers.json"
    config = read_json(file) if file.is_file() else None
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def _relevant_files(folder: Path, *, code: bool) -> Iterator[tuple[str, Path]]:
    for path in module_paths(folder):
        part = folder / path
        weights = _weights(part)
        patterns = [*_CONFIGS, "tokenizer.json"]
        if not (part / "tokenizer.json").is_file():
            patterns.extend(_SLOW_TOKENIZERS)
        if code:
            patterns.append("*.py")
        configs = {file for pattern in patterns for file in part.glob(pattern)}
        for file in sorted([*configs, *weights]):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file


def _weights(folder: Path) -> list[Path]:
    """As transformers chooses: pickles only where there is nothing better."""
    return list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))


def _file_digest(file: Path) -> bytes:
    if file.suffix == ".json" and file.name in {"tokenizer.json", "vocab.json"}:
        return hashlib.sha256(file.read_bytes()).digest()
    if file.suffix == ".json":
        canonical = json.dumps(_without_noise(read_json(file)), sort_keys=True)
        return hashlib.sha256(canonical.encode()).digest()
    return bytes.fromhex(file_sha256(file))


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without_noise(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_noise(item) for key, item in value.items() if key not in _NOISE}
    return value


def read_json(file: Path) -> object:
    """The file's value; FailedPrecondition when it cannot be read."""
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error
    return value


def _damaged(file: Path, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"model file {file} {what}; fetch or save the model again", reason="MODEL_NOT_LOADABLE"
    )
