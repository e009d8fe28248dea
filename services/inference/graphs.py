"""Loaded pipelines to graph files of OpenVINO and ONNX, in fp32 and int8. Imports torch."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.inference.batch import PackedBatch, TokenBatch, TokenizedItem
from services.inference.conversion import GRAPH_FILES
from services.inference.kinds import DescriptionT, ModelKind
from services.inference.openvino_runtime import openvino
from services.inference.packed_module import packed_inputs, same_when_packed
from services.inference.pipeline import Pipeline

OPENVINO_FILE = GRAPH_FILES["openvino"]
ONNX_FILE = GRAPH_FILES["onnx"]


def write_openvino(
    kind: ModelKind[DescriptionT], pipeline: Pipeline[DescriptionT], target: Path
) -> None:
    """Writes the graph in fp32, of packed rows where the model computes the same in them."""
    inputs = pipeline.description.inputs
    items = kind.golden_items(pipeline.tokenizer_json, pipeline.description)
    if pipeline.packed and same_when_packed(pipeline.module, pipeline.packed, inputs, items):
        graph = openvino.convert_model(pipeline.packed, example_input=_packed_example(inputs))
    else:
        graph = _openvino_graph(pipeline)
    openvino.save_model(graph, target / OPENVINO_FILE, compress_to_fp16=False)


def write_openvino_int8(
    kind: ModelKind[DescriptionT], pipeline: Pipeline[DescriptionT], target: Path
) -> None:
    """Writes the graph with static int8 matrix products, calibrated with the known inputs.

    all-MiniLM-L6-v2 with AVX512-VNNI against fp32: 2.1 times the texts/s, lowest cosine over
    256 Cranfield texts 0.994. The other ways: int8 weights alone 0.999 and 0.8 times; those
    with dynamic quantization by groups of 64 0.998 and 1.1 times; reading the graph that
    ONNX Runtime quantizes 0.988 and 0.4 times. SmoothQuant at 0.5 instead of 0.95: 0.976.
    """
    import nncf  # noqa: PLC0415 - comes with an extra

    nncf.set_log_level(logging.ERROR)
    pad_token_id = pipeline.description.pad_token_id
    items = kind.golden_items(pipeline.tokenizer_json, pipeline.description)
    # One input a sample: padding would widen what is measured.
    samples = [
        {name: getattr(batch, name) for name in pipeline.description.inputs}
        for batch in (TokenBatch.pad([item], pad_token_id) for item in items)
    ]
    graph = nncf.quantize(
        _openvino_graph(pipeline),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(graph, target / OPENVINO_FILE, compress_to_fp16=False)


def write_onnx(pipeline: Pipeline[DescriptionT], target: Path) -> None:
    """Writes the graph in fp32, its weights in a file beside it."""
    example = _example(pipeline.description.inputs)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    # The exporter that traces loses the padding's mask: vectors of padded rows are 0.07 off.
    program = torch.onnx.export(
        pipeline.module.eval(),
        (),
        kwargs=example,
        dynamo=True,
        dynamic_shapes=dict.fromkeys(example, axes),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch exported no graph")
    program.save(target / ONNX_FILE, external_data=True)


def write_onnx_int8(
    pipeline: Pipeline[DescriptionT], target: Path, *, reduced: bool = False
) -> None:
    """Writes the graph with dynamic int8 matrix products, weights by channel.

    `reduced`: in 7 bits. x86 without VNNI adds two products in 16 bits, which 8 overflow: the
    lowest cosine of the tests' LaBSE was 0.87 there.

    all-MiniLM-L6-v2 with AVX512-VNNI against fp32: 1.6 times the texts/s, lowest cosine over
    256 Cranfield texts 0.988. Embedding tables stay in fp32: they cost no time, and in int8
    0.003 more.
    """
    write_onnx(pipeline, target)
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - an extra

    whole = target / ONNX_FILE
    quantized = target / "quantized.onnx"
    # It asks for a pass before on the root logger, which would change nothing here.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            whole,
            quantized,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduced,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    for file in target.glob(f"{ONNX_FILE}*"):
        file.unlink()
    quantized.rename(whole)


def _openvino_graph(pipeline: Pipeline[DescriptionT]) -> Any:
    return openvino.convert_model(
        pipeline.module, example_input=_example(pipeline.description.inputs)
    )


def _packed_example(inputs: tuple[str, ...]) -> dict[str, torch.Tensor]:
    # Two items in a row, one in the other: tracing must see all axes vary.
    items = [TokenizedItem(ones, ones * 0) for ones in (np.ones(n, np.int64) for n in (5, 2, 8))]
    batch = PackedBatch.pack(items, (2, 8), 0)
    return {name: torch.from_numpy(getattr(batch, name)) for name in packed_inputs(inputs)}


def _example(inputs: tuple[str, ...]) -> dict[str, torch.Tensor]:
    # Two rows, one of them padded: tracing must see both axes vary.
    ones = torch.ones((2, 8), dtype=torch.int64)
    mask = ones.clone()
    mask[1, 5:] = 0
    example = {"input_ids": ones, "attention_mask": mask, "token_type_ids": ones * 0}
    return {name: example[name] for name in inputs}
