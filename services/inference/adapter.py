"""Low-rank changes that make a cross-encoder of an installed encoder.

An adapter is a folder with `adapter.safetensors` and `adapter.json`: a tenth of
the model's size, so a package can carry it. For a tensor N of the base the
change is B A (`N.lora_B`, `N.lora_A`: LoRA, Hu et al., 2021); every other
tensor of the file replaces the base's.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from services.inference.fingerprint import content_digest, file_sha256, read_json
from services.inference.source import ModelSource, model_folder
from sirdar.errors import FailedPrecondition

_CONFIG = "adapter.json"
_WEIGHTS = "adapter.safetensors"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A change of `base`, whose weights' SHA-256 is `base_sha256`."""

    folder: Path
    sha256: str
    base: ModelSource
    base_sha256: str
    prefix: str
    """In front of the base's tensor names, as the classifier has them."""
    architecture: str
    activation: str
    max_tokens: int


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter in a folder, None where it holds something else.

    Raises FailedPrecondition when it is damaged.
    """
    file = folder / _CONFIG
    if not file.is_file():
        return None
    config = _json_object(file)
    try:
        adapter = Adapter(
            folder,
            sha256=str(config["sha256"]),
            base=ModelSource(str(config["base"])),
            base_sha256=str(config["base_sha256"]),
            prefix=str(config["prefix"]),
            architecture=str(config["architecture"]),
            activation=str(config["activation"]),
            max_tokens=int(config["max_tokens"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(folder, f"its {_CONFIG} is not complete ({error})") from error
    weights = folder / _WEIGHTS
    if not weights.is_file() or file_sha256(weights) != adapter.sha256:
        raise _damaged(folder, f"its {_WEIGHTS} is missing or not the one that {_CONFIG} names")
    return adapter


def adapter_digest(adapter: Adapter) -> str:
    """As `content_digest`, of what the adapter and its base make together."""
    base = content_digest(model_folder(adapter.base))
    parts = (base, adapter.sha256, adapter.architecture, adapter.activation, adapter.max_tokens)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_merged(adapter: Adapter, target: Path) -> None:
    """Writes base and change, added up in fp32, as a cross-encoder that anything can load.

    Raises FailedPrecondition when the base is another than the change was made for.
    """
    base = model_folder(adapter.base)
    if file_sha256(base / "model.safetensors") != adapter.base_sha256:
        raise _damaged(
            adapter.folder, f"{adapter.base.name} has other weights than it was made for"
        )
    tensors = _merge(
        load_file(base / "model.safetensors"), load_file(adapter.folder / _WEIGHTS), adapter.prefix
    )
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    config = _json_object(base / "config.json")
    config["architectures"] = [adapter.architecture]
    config["id2label"] = {"0": "LABEL_0"}
    config["label2id"] = {"LABEL_0": 0}
    config["sentence_transformers"] = {"activation_fn": adapter.activation}
    (target / "config.json").write_text(json.dumps(config, indent=1))
    for name in _TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copy(base / name, target / name)
    tokenizer = _json_object(base / "tokenizer_config.json")
    tokenizer["model_max_length"] = adapter.max_tokens
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1))


def _json_object(file: Path) -> dict[str, Any]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise _damaged(file.parent, f"its {file.name} is no JSON object")
    return value


def _merge(
    base: dict[str, NDArray[np.generic]], change: dict[str, NDArray[np.generic]], prefix: str
) -> dict[str, NDArray[np.float32]]:
    merged = {
        f"{prefix}{name}": tensor.astype(np.float32)
        for name, tensor in base.items()
        # Positions are counted, not learned.
        if np.issubdtype(tensor.dtype, np.floating)
    }
    for name, tensor in change.items():
        if name.endswith(".lora_A"):
            continue
        if name.endswith(".lora_B"):
            target = name.removesuffix(".lora_B")
            right = change[f"{target}.lora_A"].astype(np.float32)
            merged[target] += tensor.astype(np.float32) @ right
        else:
            merged[name] = tensor.astype(np.float32)
    return merged


def _damaged(folder: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the adapter in {folder} cannot be used: {why}; install it again or name another model",
        reason="MODEL_NOT_LOADABLE",
    )
