"""Weights that a model's files lack: transformers fills them with random numbers and goes on."""

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer


def poison_missing_weights(
    transformer: Transformer, folder: Path, *, trust_remote_code: bool
) -> tuple[str, ...]:
    """Sets every parameter that the files of the model in `folder` lack to NaN; their names.

    Some lack what they never use, such as BERT's pooler. What is used makes the model
    answer NaN, and so tells itself apart.
    """
    model = transformer.model
    part = folder / _first_module(folder)
    if (part / "adapter_config.json").is_file():
        return ()  # the weights are those of another model and a change of them
    # Loaded a second time: sentence-transformers keeps what this says to itself.
    loaded: Any = type(model).from_pretrained(
        str(part),
        config=model.config,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
    )
    found = loaded[1]
    missing = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    parameters = dict(model.named_parameters())
    names = sorted(missing & parameters.keys())
    with torch.no_grad():
        for name in names:
            parameters[name].fill_(torch.nan)
    return tuple(names)


def _first_module(folder: Path) -> str:
    file = folder / "modules.json"
    if not file.is_file():
        return ""
    return str(json.loads(file.read_text(encoding="utf-8"))[0].get("path", ""))
