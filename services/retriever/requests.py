"""From the messages of requests to what the retriever works with: every field is checked here.

Raises InvalidArgument that names the field by its path.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from services.cluster.shards import check_shards
from services.retriever.index_kinds import AUTO
from services.retriever.lexical.analyzers import LANGUAGES, NO_LANGUAGE, is_language
from services.retriever.schema import schema
from services.retriever.store.records import (
    CollectionDefinition,
    CollectionUpdate,
    LexicalSettings,
    Similarity,
    Space,
)
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2
from sirdar.v1.retriever_pb2 import RetrieverServiceUpdateCollectionRequest

DEFAULT_NAMESPACE = "default"

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_BATCH = 1000
MAX_ID_BYTES = 512
MAX_DIMENSIONS = 16_384
MAX_DESCRIPTION = 1000
MAX_LABELS = 64
MAX_LABEL_CHARACTERS = 256

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_MUTABLE = ("description", "labels", "rerank", "schema")

_SIMILARITIES = {
    collection_pb2.SIMILARITY_UNSPECIFIED: Similarity.COSINE,
    collection_pb2.SIMILARITY_COSINE: Similarity.COSINE,
    collection_pb2.SIMILARITY_DOT: Similarity.DOT,
}


def namespace(value: str, field: str = "namespace") -> str:
    return name(value, field) if value else DEFAULT_NAMESPACE


def name(value: str, field: str) -> str:
    if not _NAME.fullmatch(value):
        raise InvalidArgument.field(
            field, "must be 1 to 63 of a-z, 0-9, `-` and `_`, a letter first"
        )
    return value


def page_size(value: int | None) -> int:
    if value is None:
        return DEFAULT_PAGE
    if not 1 <= value <= MAX_PAGE:
        raise InvalidArgument.field("page_size", f"must be 1 to {MAX_PAGE}, not {value}")
    return value


def batch_size(items: Sequence[object], field: str) -> None:
    if not 1 <= len(items) <= MAX_BATCH:
        raise InvalidArgument.field(field, f"must be 1 to {MAX_BATCH} items, not {len(items)}")


def document_id(value: str, field: str) -> str:
    if not value:
        raise InvalidArgument.field(field, "must not be empty")
    if len(value.encode()) > MAX_ID_BYTES:
        raise InvalidArgument.field(field, f"must be at most {MAX_ID_BYTES} bytes of UTF-8")
    return no_nul(value, field)


def document_ids(values: Sequence[str]) -> list[str]:
    batch_size(values, "document_ids")
    return [document_id(value, f"document_ids[{at}]") for at, value in enumerate(values)]


def no_nul(value: str, field: str) -> str:
    if "\0" in value:
        raise InvalidArgument.field(field, "must not have NUL characters")
    return value


def definition(
    message: collection_pb2.Collection, default_shards: int, default_language: str
) -> CollectionDefinition:
    generation = message.generation
    shards = generation.shards or default_shards
    check_shards(shards, "collection.generation.shards")
    if generation.similarity not in _SIMILARITIES:
        raise InvalidArgument.field("collection.generation.similarity", "is not known")
    return CollectionDefinition(
        namespace=namespace(message.namespace, "collection.namespace"),
        name=name(message.name, "collection.name"),
        description=_description(message.description),
        labels=_labels(message.labels),
        rerank=message.rerank.SerializeToString(),
        space=_space(generation),
        shards=shards,
        index_kind=generation.index_kind or AUTO,
        similarity=_SIMILARITIES[generation.similarity],
        lexical=_lexical(message.lexical, default_language),
        schema=schema(message.schema, "collection.schema"),
    )


def update(request: RetrieverServiceUpdateCollectionRequest) -> CollectionUpdate:
    paths = set(request.update_mask.paths)
    if not paths:
        raise InvalidArgument.field("update_mask", "must name what to change")
    for path in sorted(paths.difference(_MUTABLE)):
        known = path.split(".")[0] in collection_pb2.Collection.DESCRIPTOR.fields_by_name
        raise InvalidArgument.field(
            "update_mask",
            f"names {path}, which {'cannot be changed' if known else 'is not a field'}; "
            f"{', '.join(_MUTABLE)} can be",
            reason="IMMUTABLE_FIELD",
        )
    message = request.collection
    return CollectionUpdate(
        description=_description(message.description) if "description" in paths else None,
        labels=_labels(message.labels) if "labels" in paths else None,
        rerank=message.rerank.SerializeToString() if "rerank" in paths else None,
        schema=schema(message.schema, "collection.schema") if "schema" in paths else None,
    )


def _lexical(message: collection_pb2.LexicalSettings, default_language: str) -> LexicalSettings:
    language = message.language or default_language
    if not is_language(language):
        raise InvalidArgument.field(
            "collection.lexical.language",
            f"must be {NO_LANGUAGE} or one of {', '.join(LANGUAGES)}",
        )
    return LexicalSettings(message.enabled or not message.HasField("enabled"), language)


def _space(generation: collection_pb2.Generation) -> Space:
    space = generation.space
    field = "collection.generation.space"
    if not 1 <= space.dimensions <= MAX_DIMENSIONS:
        raise InvalidArgument.field(
            f"{field}.dimensions", f"must be 1 to {MAX_DIMENSIONS}, not {space.dimensions}"
        )
    if not space.fingerprint:
        raise InvalidArgument.field(f"{field}.fingerprint", "must be the model's")
    texts = (space.model.name, space.model.revision, space.fingerprint)
    if any(len(text) > MAX_ID_BYTES for text in texts):
        raise InvalidArgument.field(field, f"must have texts of at most {MAX_ID_BYTES} characters")
    for text in texts:
        no_nul(text, field)
    return Space(space.model.name, space.model.revision, space.dimensions, space.fingerprint)


def _description(value: str) -> str:
    if len(value) > MAX_DESCRIPTION:
        raise InvalidArgument.field(
            "collection.description", f"must be at most {MAX_DESCRIPTION} characters"
        )
    return no_nul(value, "collection.description")


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise InvalidArgument.field("collection.labels", f"must be at most {MAX_LABELS}")
    _label_texts(labels.keys())
    _label_texts(labels.values())
    if "" in labels:
        raise InvalidArgument.field("collection.labels", "must not have an empty key")
    return dict(labels)


def _label_texts(texts: Iterable[str]) -> None:
    for text in texts:
        if len(text) > MAX_LABEL_CHARACTERS:
            raise InvalidArgument.field(
                "collection.labels",
                f"must have keys and values of at most {MAX_LABEL_CHARACTERS} characters",
            )
        no_nul(text, "collection.labels")
