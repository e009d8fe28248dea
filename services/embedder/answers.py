"""What was embedded, and the models, to messages of the contract."""

from typing import Any
from weakref import WeakKeyDictionary

from services.embedder.documents import DocumentVectors
from services.embedder.models import ModelEntry, ModelState
from services.embedder.served_model import ServedModel
from services.embedder.spaces import OutputSpace, VectorDtype
from services.embedder.texts import TextVectors
from sirdar.errors import SirdarError, to_status
from sirdar.v1 import common_pb2, embedder_pb2

_DTYPES = {
    VectorDtype.FLOAT32: common_pb2.DTYPE_FLOAT32,
    VectorDtype.FLOAT16: common_pb2.DTYPE_FLOAT16,
    VectorDtype.INT8: common_pb2.DTYPE_INT8,
    VectorDtype.BINARY: common_pb2.DTYPE_BINARY,
}
_STATES = {
    ModelState.LOADING: common_pb2.MODEL_STATE_LOADING,
    ModelState.SERVING: common_pb2.MODEL_STATE_SERVING,
    ModelState.UNLOADING: common_pb2.MODEL_STATE_UNLOADING,
}
# One message a space, made once: a third of the time of an answer with one vector.
_space_messages: "WeakKeyDictionary[OutputSpace, common_pb2.EmbeddingSpace]" = WeakKeyDictionary()


def texts_answer(embedded: TextVectors) -> embedder_pb2.EmbedTextsResponse:
    """One embedding a text, in order."""
    space = embedded.space
    dtype, dimensions = _DTYPES[space.dtype], space.dimensions
    response = embedder_pb2.EmbedTextsResponse(space=_space_message(embedded.model, space))
    # Nested messages given as dicts are built in place, in a third of the time. The stubs
    # do not know that they may.
    add: Any = response.embeddings.add
    errors = embedded.errors
    found = zip(embedded.vectors, embedded.items, strict=True)
    for index, text in enumerate(embedded.texts):
        empty = not text or text.isspace()
        if index in errors:
            add(error=to_status(errors[index]), empty=empty)
            continue
        data, item = next(found)
        add(
            vector={"data": data, "dtype": dtype, "dimensions": dimensions},
            tokens=len(item.token_ids),
            truncated=item.truncated,
            empty=empty,
        )
    return response


def documents_answer(
    request: embedder_pb2.EmbedDocumentsRequest, embedded: DocumentVectors
) -> embedder_pb2.EmbedDocumentsResponse:
    """One embedding a document, in order."""
    space = embedded.space
    dtype, dimensions = _DTYPES[space.dtype], space.dimensions
    response = embedder_pb2.EmbedDocumentsResponse(space=_space_message(embedded.model, space))
    for document, outcome in zip(request.documents, embedded.outcomes, strict=True):
        if isinstance(outcome, SirdarError):
            response.documents.add(document_id=document.id, error=to_status(outcome))
            continue
        embedding = response.documents.add(document_id=document.id)
        embedding.embedded.SetInParent()
        add: Any = embedding.embedded.passages.add
        for passage, data in zip(outcome.passages, outcome.vectors, strict=True):
            add(
                span={"start": passage.start, "end": passage.end},
                vector={"data": data, "dtype": dtype, "dimensions": dimensions},
                tokens=passage.item.tokens,
            )
    return response


def model_info(entry: ModelEntry, *, is_default: bool) -> common_pb2.ModelInfo:
    """All that is known of a model; while it loads, its name."""
    info = common_pb2.ModelInfo(
        model=common_pb2.ModelRef(name=entry.source.name, revision=entry.source.revision),
        state=_STATES[entry.state],
        is_default=is_default,
    )
    if entry.served is None:
        return info
    loaded = entry.served.loaded
    engine = loaded.engine.info
    info.engine, info.precision, info.device = engine.name, engine.precision, engine.device
    info.max_tokens = loaded.description.max_tokens
    info.space.CopyFrom(_space_message(entry.served, entry.served.spaces.plain))
    info.prompts.extend(loaded.description.prompt_names)
    info.similarity = loaded.description.similarity
    info.parity.min_cosine = loaded.parity.min_cosine
    info.parity.required_cosine = loaded.parity.required_cosine
    info.parity.texts = loaded.parity.texts
    low, high = entry.served.spaces.ranges.to_bytes()
    info.int8_calibration.minimums, info.int8_calibration.maximums = low, high
    return info


def _space_message(model: ServedModel, space: OutputSpace) -> common_pb2.EmbeddingSpace:
    message = _space_messages.get(space)
    if message is None:
        source = model.loaded.source
        message = _space_messages[space] = common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name=source.name, revision=source.revision),
            dimensions=space.dimensions,
            fingerprint=space.fingerprint,
        )
    return message
