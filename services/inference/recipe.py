"""What a model is converted to."""

from dataclasses import dataclass
from typing import Literal

# `torch` has no graph: what is kept of it are the description and the reference.
GraphForm = Literal["openvino", "openvino-int8", "onnx", "onnx-int8", "onnx-int8-reduced", "torch"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model's folder becomes an entry of the cache."""

    form: GraphForm
    trust_remote_code: bool = False
    """Run the code that a model's folder brings along."""
