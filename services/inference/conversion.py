"""Sentence-transformers pipelines to the graphs of an engine. Imports torch when it converts.

Runs in a process of its own (`python -m services.inference.conversion KIND FORM TRUST
FOLDER TARGET`), so that a server never holds torch and its copy of the weights.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from services.inference.kinds import KINDS, DescriptionT, ModelKind
from services.inference.recipe import GraphForm, Recipe
from services.runtime.cpu import available_cpus
from sirdar.errors import FailedPrecondition

if TYPE_CHECKING:
    from services.inference.pipeline import Pipeline

TOKENIZER_FILE = "tokenizer.json"
DESCRIPTION_FILE = "description.json"
REFERENCE_FILE = "reference.npy"
# Part of every cache key: raise it when what `convert` writes changes.
FORMAT_VERSION = 4
GRAPH_FILES: dict[GraphForm, str] = {
    "openvino": "model.xml",
    "openvino-int8": "model.xml",
    "onnx": "model.onnx",
    "onnx-int8": "model.onnx",
    "onnx-int8-reduced": "model.onnx",
    "torch": "",
}


def convert_in_child(
    kind: ModelKind[DescriptionT], recipe: Recipe, folder: Path, target: Path
) -> None:
    """Converts the model in `folder` into files in `target`; blocks for seconds.

    Raises FailedPrecondition when the model cannot be loaded or converted.
    """
    trust = "trust" if recipe.trust_remote_code else "no-trust"
    child = subprocess.run(
        [sys.executable, "-m", __name__, kind.name, recipe.form, trust, str(folder), str(target)],
        # torch would count the host's cores, and its idle threads wait by turning in circles.
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(available_cpus()),
            "OMP_WAIT_POLICY": "PASSIVE",
        },
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


def convert(kind: ModelKind[DescriptionT], recipe: Recipe, folder: Path, target: Path) -> None:
    """Writes graph, tokenizer, description and reference of the model in `folder` to `target`.

    Raises ValueError for a model that lacks weights or answers NaN.
    """
    pipeline = kind.load(folder, trust_remote_code=recipe.trust_remote_code)
    reference = pipeline.reference()
    if not np.isfinite(reference).all():
        if pipeline.missing:
            raise ValueError(
                f"its files lack {len(pipeline.missing)} weights, such as {pipeline.missing[0]}"
            )
        raise ValueError("it answers NaN or infinity; its weights are damaged")
    np.save(target / REFERENCE_FILE, reference)
    (target / TOKENIZER_FILE).write_text(pipeline.tokenizer_json, encoding="utf-8")
    (target / DESCRIPTION_FILE).write_text(pipeline.description.to_json(), encoding="utf-8")
    _write_graph(kind, recipe.form, pipeline, target)


def _write_graph(
    kind: ModelKind[DescriptionT],
    form: GraphForm,
    pipeline: "Pipeline[DescriptionT]",
    target: Path,
) -> None:
    if form == "torch":
        return  # the engine runs the model itself
    from services.inference import graphs  # noqa: PLC0415 - imports torch and OpenVINO

    match form:
        case "openvino":
            graphs.write_openvino(kind, pipeline, target)
        case "openvino-int8":
            graphs.write_openvino_int8(kind, pipeline, target)
        case "onnx":
            graphs.write_onnx(pipeline, target)
        case "onnx-int8":
            graphs.write_onnx_int8(pipeline, target)
        case "onnx-int8-reduced":
            graphs.write_onnx_int8(pipeline, target, reduced=True)


def not_loadable(folder: Path, why: str) -> FailedPrecondition:
    """The error for a model that is damaged or not supported; on one line, whatever `why` says."""
    line = " ".join(why.split())[:500]
    return FailedPrecondition(
        f"the model in {folder} cannot be loaded: {line}; fetch or save it again, or use another",
        reason="MODEL_NOT_LOADABLE",
    )


def main() -> None:
    """Exits with 1 and one line on standard output when the model cannot be converted."""
    kind, form, trust, folder, target = sys.argv[1:]
    recipe = Recipe(cast(GraphForm, form), trust == "trust")
    try:
        convert(KINDS[kind], recipe, Path(folder), Path(target))
    except Exception as error:  # noqa: BLE001 - whatever torch or transformers say goes to the parent
        print(" ".join(f"{type(error).__name__}: {error}".split()))
        sys.exit(1)


if __name__ == "__main__":
    main()
