"""What the reranker can be told."""

from pathlib import Path

import platformdirs
from pydantic import Field

from services.inference.engine import EngineName, Precision
from services.reranker.builtin import DEFAULT_MODEL
from services.runtime.settings import ServerSettings, server_config


class RerankerSettings(ServerSettings):
    """Pairs of query and passage to scores."""

    model_config = server_config("reranker")

    port: int = Field(default=7703, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""
    metrics_port: int | None = Field(default=7793, ge=0, le=65535)
    """Port of /metrics for Prometheus."""
    model: str = DEFAULT_MODEL
    """`builtin:name`, `package:installed-package`, `path:/folder`, or a Hugging Face name."""
    model_revision: str = ""
    """A hub revision (branch, tag or commit); empty: the default branch."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings along, with all rights of this process."""
    cache_folder: Path = platformdirs.user_cache_path("sirdar")
    """Where converted models are kept; may be shared by several servers."""
    engine: EngineName = "auto"
    """`openvino`, `onnx`, `torch`, or `auto`: torch where there is an NVIDIA GPU, else openvino."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPU), `int8` (CPU), or `auto`: the fastest of the others."""
    threads: int = Field(default=0, ge=0)
    """Threads of an engine on the CPU; 0: as many CPUs as the process may use."""
    queue_items: int = Field(default=8_192, ge=1)
    """How many pairs may wait, each for interactive and bulk work."""
    queue_tokens: int = Field(default=1_048_576, ge=1)
    """How many tokens may wait, each for interactive and bulk work."""
    queue_bytes: int = Field(default=128 * 2**20, ge=1)
    """How much memory what waits may take, each for interactive and bulk work."""
    max_passages: int = Field(default=1_000, ge=1)
    """The most passages in one message."""
    max_query_characters: int = Field(default=8_192, ge=1)
    """The longest query; the model's window cuts it far earlier."""
    stream_passages: int = Field(default=256, ge=1)
    """How many passages of one stream are worked on at the same time."""
