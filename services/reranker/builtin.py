"""The models that come with the reranker, as changes of installed packages."""

from pathlib import Path

from services.inference.cross_source import cross_encoder_folder
from services.inference.source import ModelSource
from sirdar.errors import NotFound

DEFAULT_MODEL = "builtin:minilm-reranker"
_PREFIX = "builtin:"
_MODELS = Path(__file__).parent / "models"


def reranker_folder(source: ModelSource) -> Path:
    """The folder of the model that is named `builtin:NAME`, or as other models are.

    Errors as `cross_encoder_folder`, which also fetches from the hub; blocks.
    """
    if not source.name.startswith(_PREFIX):
        return cross_encoder_folder(source)
    name = source.name.removeprefix(_PREFIX)
    known = sorted(folder.name for folder in _MODELS.iterdir() if folder.is_dir())
    if name not in known:
        raise NotFound(
            f"model {source.name}: there is no such built-in model; there is "
            + ", ".join(f"{_PREFIX}{one}" for one in known),
            reason="MODEL_NOT_FOUND",
        )
    return _MODELS / name
