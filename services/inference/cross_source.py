"""Whether a folder holds a cross-encoder, told from its configuration alone."""

from pathlib import Path

from services.inference.adapter import read_adapter
from services.inference.fingerprint import module_paths, read_json, saved_kind
from services.inference.source import ModelSource, find_folder
from sirdar.errors import FailedPrecondition

_HEAD = "ForSequenceClassification"


def cross_encoder_folder(source: ModelSource) -> Path:
    """The folder of a cross-encoder or of an adapter; fetches it from the hub where needed.

    Raises NotFound when there is no such package, folder or hub model, and
    FailedPrecondition when it is a bi-encoder, gives other than one score a
    pair, or the hub cannot be reached.
    """
    folder = find_folder(source, "config.json")
    if read_adapter(folder) is None:
        _check(source, folder)
    return folder


def _check(source: ModelSource, folder: Path) -> None:
    file = next(
        (
            folder / path / "config.json"
            for path in module_paths(folder)
            if (folder / path / "config.json").is_file()
        ),
        None,
    )
    if file is None:
        raise _refusal(source, f"{folder} has no config.json, so it holds no cross-encoder")
    config = read_json(file)
    if not isinstance(config, dict):
        raise _refusal(source, f"{file} is no JSON object")
    architectures = [str(name) for name in config.get("architectures") or ()]
    if _is_bi_encoder(folder):
        raise _refusal(
            source,
            "it is a bi-encoder (a SentenceTransformer), which gives texts vectors and pairs no "
            "score: the embedder serves it",
            reason="MODEL_IS_BI_ENCODER",
        )
    if not any(name.endswith(_HEAD) for name in architectures):
        what = ", ".join(architectures) or "without an architecture"
        raise _refusal(source, f"it is {what}, without the head that scores pairs (...{_HEAD})")
    labels = len(config.get("id2label") or ()) or int(config.get("num_labels", 2))
    if labels != 1:
        raise _refusal(source, f"it gives {labels} labels a pair; a reranker gives one score")


def _is_bi_encoder(folder: Path) -> bool:
    """As sentence-transformers tells: by what saved it, or by its pooling."""
    kind = saved_kind(folder)
    if kind:
        return kind == "SentenceTransformer"
    modules = folder / "modules.json"
    return modules.is_file() and "Pooling" in modules.read_text(encoding="utf-8")


def _refusal(
    source: ModelSource, why: str, *, reason: str = "MODEL_NOT_LOADABLE"
) -> FailedPrecondition:
    return FailedPrecondition(
        f"model {source.name} cannot rerank: {why}; name a cross-encoder, such as "
        "cross-encoder/ms-marco-MiniLM-L6-v2",
        reason=reason,
    )
