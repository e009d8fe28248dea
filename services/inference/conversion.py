"""Sentence-transformers pipelines to OpenVINO graphs. The one module that imports torch for CPU.

Runs in a process of its own (`python -m services.inference.conversion KIND FOLDER
TARGET`), so that a server never holds torch and its copy of the weights.
"""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.kinds import KINDS, DescriptionT, ModelKind
from sirdar.errors import FailedPrecondition

if TYPE_CHECKING:
    from services.inference.pipeline import Pipeline

MODEL_FILE = "model.xml"
TOKENIZER_FILE = "tokenizer.json"
DESCRIPTION_FILE = "description.json"
# Part of every cache key: raise it when what `convert` writes changes.
FORMAT_VERSION = 1


def convert_in_child(kind: ModelKind[DescriptionT], folder: Path, target: Path) -> None:
    """Converts the model in `folder` into files in `target`; blocks for seconds.

    Raises FailedPrecondition when the model cannot be loaded or converted.
    """
    child = subprocess.run(
        [sys.executable, "-m", __name__, kind.name, str(folder), str(target)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode == 0:
        return
    last_lines = (child.stdout.strip() or child.stderr.strip()).splitlines()
    why = last_lines[-1] if last_lines else f"the converter ended with {child.returncode}"
    raise not_loadable(folder, why)


def convert(kind: ModelKind[DescriptionT], folder: Path, target: Path) -> None:
    """Writes graph, tokenizer and description of the model in `folder` to `target`."""
    pipeline = kind.load(folder)
    _write_graph(pipeline, target / MODEL_FILE)
    (target / TOKENIZER_FILE).write_text(pipeline.tokenizer_json, encoding="utf-8")
    (target / DESCRIPTION_FILE).write_text(pipeline.description.to_json(), encoding="utf-8")


def _write_graph(pipeline: "Pipeline[DescriptionT]", file: Path) -> None:
    import torch  # noqa: PLC0415

    from services.inference.openvino_runtime import openvino  # noqa: PLC0415

    # Two rows, one of them padded: tracing must see both axes vary.
    ones = torch.ones((2, 8), dtype=torch.int64)
    mask = ones.clone()
    mask[1, 5:] = 0
    example = {"input_ids": ones, "attention_mask": mask, "token_type_ids": ones * 0}
    inputs = {name: example[name] for name in pipeline.description.inputs}
    graph = openvino.convert_model(pipeline.module, example_input=inputs)
    openvino.save_model(graph, file, compress_to_fp16=False)


def not_loadable(folder: Path, why: str) -> FailedPrecondition:
    """The error for a model that is damaged or not supported; on one line, whatever `why` says."""
    line = " ".join(why.split())[:500]
    return FailedPrecondition(
        f"the model in {folder} cannot be loaded: {line}; fetch or save it again, or use another",
        reason="MODEL_NOT_LOADABLE",
    )


def main() -> None:
    """Exits with 1 and one line on standard output when the model cannot be converted."""
    kind, folder, target = sys.argv[1:]
    try:
        convert(KINDS[kind], Path(folder), Path(target))
    except Exception as error:  # noqa: BLE001 - whatever torch or transformers say goes to the parent
        print(" ".join(f"{type(error).__name__}: {error}".split()))
        sys.exit(1)


if __name__ == "__main__":
    main()
