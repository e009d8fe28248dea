"""Messages of the contract to calls."""

from services.embedder.calls import (
    DocumentsCall,
    InputType,
    ModelChoice,
    SourceDocument,
    TextsCall,
    Truncation,
)
from services.embedder.spaces import VectorDtype, VectorForm
from services.inference.source import ModelSource
from services.inference.work import Priority, Work
from services.runtime.deadline import deadline
from services.runtime.interceptors import caller
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2, embedder_pb2

# A call with more texts than this does not go in front of others' queries.
_INTERACTIVE_TEXTS = 64

_DTYPES = {
    common_pb2.DTYPE_UNSPECIFIED: VectorDtype.FLOAT32,
    common_pb2.DTYPE_FLOAT32: VectorDtype.FLOAT32,
    common_pb2.DTYPE_FLOAT16: VectorDtype.FLOAT16,
    common_pb2.DTYPE_INT8: VectorDtype.INT8,
    common_pb2.DTYPE_BINARY: VectorDtype.BINARY,
}
_INPUT_TYPES = {
    embedder_pb2.INPUT_TYPE_UNSPECIFIED: InputType.UNSPECIFIED,
    embedder_pb2.INPUT_TYPE_QUERY: InputType.QUERY,
    embedder_pb2.INPUT_TYPE_DOCUMENT: InputType.DOCUMENT,
}
_TRUNCATIONS = {
    embedder_pb2.TRUNCATION_UNSPECIFIED: Truncation.END,
    embedder_pb2.TRUNCATION_END: Truncation.END,
    embedder_pb2.TRUNCATION_START: Truncation.START,
    embedder_pb2.TRUNCATION_REFUSE: Truncation.REFUSE,
}
_PRIORITIES = {
    common_pb2.PRIORITY_UNSPECIFIED: None,
    common_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    common_pb2.PRIORITY_BULK: Priority.BULK,
}
# All dimensions, the most usual by far: made once.
_FULL = {dtype: VectorForm(dtype) for dtype in VectorDtype}
_ANY_MODEL = ModelChoice()


def texts_call(
    request: embedder_pb2.EmbedTextsRequest, default: Priority | None = None
) -> TextsCall:
    """Raises InvalidArgument for what is unknown here.

    `default` is the priority of a request that asks for none; None: by its size.
    """
    input_type = _INPUT_TYPES.get(request.input_type)
    if input_type is None:
        raise InvalidArgument.field("input_type", "is unknown; use QUERY or DOCUMENT")
    truncation = _TRUNCATIONS.get(request.truncation)
    if truncation is None:
        raise InvalidArgument.field("truncation", "is unknown; use END, START or REFUSE")
    if default is None:
        few = len(request.texts) <= _INTERACTIVE_TEXTS
        default = Priority.INTERACTIVE if few else Priority.BULK
    return TextsCall(
        _choice(request),
        request.texts,
        input_type,
        request.prompt_name if request.HasField("prompt_name") else None,
        truncation,
        _form(request),
        _work(request, default),
    )


def documents_call(request: embedder_pb2.EmbedDocumentsRequest) -> DocumentsCall:
    """Raises InvalidArgument for what is unknown here."""
    documents = [SourceDocument(item.id, item.title, item.text) for item in request.documents]
    return DocumentsCall(_choice(request), documents, _form(request), _work(request, Priority.BULK))


def model_source(
    request: embedder_pb2.LoadModelRequest | embedder_pb2.UnloadModelRequest,
) -> ModelSource:
    """Raises InvalidArgument where no model is named."""
    if not request.model.name:
        raise InvalidArgument.field("model.name", "must not be empty", reason="EMPTY")
    if "\0" in request.model.name or "\0" in request.model.revision:
        raise InvalidArgument.field("model", "must not contain NUL")
    return ModelSource(request.model.name, request.model.revision)


_Request = embedder_pb2.EmbedTextsRequest | embedder_pb2.EmbedDocumentsRequest


def _choice(request: _Request) -> ModelChoice:
    if not request.HasField("model") and not request.expected_fingerprint:
        return _ANY_MODEL
    return ModelChoice(request.model.name, request.model.revision, request.expected_fingerprint)


def _form(request: _Request) -> VectorForm:
    dtype = _DTYPES.get(request.dtype)
    if dtype is None:
        raise InvalidArgument.field("dtype", "is unknown; use FLOAT32, FLOAT16, INT8 or BINARY")
    return VectorForm(dtype, request.dimensions) if request.HasField("dimensions") else _FULL[dtype]


def _work(request: _Request, default: Priority) -> Work:
    if request.priority not in _PRIORITIES:
        raise InvalidArgument.field("priority", "is unknown; use INTERACTIVE or BULK")
    return Work(_PRIORITIES[request.priority] or default, caller(), deadline())
