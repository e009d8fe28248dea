"""Python values into the messages of the contract.

What protobuf cannot carry raises InvalidArgument with the path of the field,
before any call.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sirdar.client.collection import FieldType, RerankSettings
from sirdar.client.documents import ConditionalDocument, Document, DocumentUpdate, MetadataValue
from sirdar.client.fusion import Fusion, FusionMethod, SearchMode
from sirdar.client.searches import SimilarityMethod
from sirdar.errors import InvalidArgument
from sirdar.filter_text import parse_filter
from sirdar.v1 import collection_pb2, document_pb2, filter_pb2, query_pb2, search_pb2

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)


def known(given: Iterable[str], options: type) -> None:
    """Raises InvalidArgument for a name that is none of the options: left alone it would change
    nothing, and nobody would know."""
    names = sorted(options.__annotations__)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            fix = f"did you mean {near[0]}?" if near else f"they are {', '.join(names)}"
            raise InvalidArgument.field(name, f"is no option of this call; {fix}")


def text(field: str, value: str) -> str:
    """The value, if it is a string of Unicode characters."""
    if not isinstance(value, str):
        raise InvalidArgument.field(field, f"must be a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument.field(
            field,
            f"holds a lone surrogate at character {error.start}; "
            "decode its source with errors='replace'",
        ) from error
    return value


def texts(field: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str):
        raise InvalidArgument.field(field, "must be a list of strings, not one string")
    return [text(f"{field}[{position}]", value) for position, value in enumerate(values)]


def int32(field: str, value: int) -> int:
    """The value, if it fits."""
    return _integer(field, value, _INT32)


def int64(field: str, value: int) -> int:
    """The value, if it fits."""
    return _integer(field, value, _INT64)


def _integer(field: str, value: int, fitting: range) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument.field(field, f"must be an integer, not {type(value).__name__}")
    if value not in fitting:
        bits = fitting.stop.bit_length()
        raise InvalidArgument.field(field, f"must fit in {bits} bits, which {value:.3g} does not")
    return value


def number(field: str, value: float) -> float:
    """The value, if it is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument.field(field, f"must be a number, not {type(value).__name__}")
    return value


def boolean(field: str, value: bool) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidArgument.field(field, f"must be True or False, not {type(value).__name__}")
    return value


def rerank_settings(field: str, value: RerankSettings) -> collection_pb2.RerankSettings:
    """What is None stays unset."""
    message = collection_pb2.RerankSettings()
    if value.enabled is not None:
        message.enabled = boolean(f"{field}.enabled", value.enabled)
    if value.depth is not None:
        message.depth = int32(f"{field}.depth", value.depth)
    if value.weight is not None:
        message.weight = number(f"{field}.weight", value.weight)
    if value.retriever_weight is not None:
        message.retriever_weight = number(f"{field}.retriever_weight", value.retriever_weight)
    return message


def mode(field: str, value: SearchMode | str) -> query_pb2.SearchMode.ValueType:
    return query_pb2.SearchMode.Value(f"SEARCH_MODE_{choice(field, value, SearchMode)}")


def similarity_method(
    field: str, value: SimilarityMethod | str
) -> query_pb2.SimilarityMethod.ValueType:
    method = choice(field, value, SimilarityMethod)
    return query_pb2.SimilarityMethod.Value(f"SIMILARITY_METHOD_{method}")


def fusion(field: str, value: Fusion) -> query_pb2.Fusion:
    """What is None stays unset."""
    message = query_pb2.Fusion()
    if value.method is not None:
        method = choice(f"{field}.method", value.method, FusionMethod)
        message.method = query_pb2.FusionMethod.Value(f"FUSION_METHOD_{method}")
    if value.dense_weight is not None:
        message.dense_weight = number(f"{field}.dense_weight", value.dense_weight)
    if value.lexical_weight is not None:
        message.lexical_weight = number(f"{field}.lexical_weight", value.lexical_weight)
    if value.rank_constant is not None:
        message.rank_constant = number(f"{field}.rank_constant", value.rank_constant)
    return message


def filter_(field: str, value: filter_pb2.Filter | str) -> filter_pb2.Filter:
    """A message as it is, a text parsed; see `sirdar.filter_text`."""
    if isinstance(value, filter_pb2.Filter):
        return value
    return parse_filter(text(field, value), field)


def schema(field: str, values: Mapping[str, FieldType | str]) -> list[filter_pb2.FieldSchema]:
    """The fields in the order of the mapping."""
    fields = []
    for name, kind in values.items():
        word = choice(f"{field}[{name}]", kind, FieldType)
        number_ = filter_pb2.FieldType.Value(f"FIELD_TYPE_{word}")
        fields.append(filter_pb2.FieldSchema(name=text(f"{field} name", name), type=number_))
    return fields


def choice(field: str, value: str, choices: type[StrEnum]) -> str:
    """The value's name, if it is one of the choices."""
    try:
        return choices(value).name
    except ValueError:
        known = ", ".join(choices)
        raise InvalidArgument.field(field, f"must be one of {known}, not {value!r}") from None


def labels(field: str, values: Mapping[str, str]) -> dict[str, str]:
    return {text(f"{field} key", key): text(f"{field}[{key}]", values[key]) for key in values}


def document(field: str, value: Document) -> document_pb2.Document:
    """`field` is the path under which faults are named; empty for the document itself."""
    prefix = f"{field}." if field else ""
    message = document_pb2.Document(
        id=text(f"{prefix}id", value.id),
        title=text(f"{prefix}title", value.title),
        text=text(f"{prefix}text", value.text),
    )
    for key, item in value.metadata.items():
        name = text(f"{prefix}metadata key", key)
        message.metadata[name].CopyFrom(metadata_value(f"{prefix}metadata.{key}", item))
    if value.expires is not None:
        message.expires.CopyFrom(instant(f"{prefix}expires", value.expires))
    return message


def document_update(field: str, value: DocumentUpdate) -> document_pb2.DocumentUpdate:
    message = document_pb2.DocumentUpdate(
        document_id=text(f"{field}.document_id", value.document_id),
        remove=texts(f"{field}.remove", value.remove),
    )
    for key, item in value.set.items():
        name = text(f"{field}.set key", key)
        message.set[name].CopyFrom(metadata_value(f"{field}.set.{key}", item))
    if value.if_version is not None:
        message.if_version = int64(f"{field}.if_version", value.if_version)
    if boolean(f"{field}.never_expires", value.never_expires):
        if value.expires is not None:
            raise InvalidArgument.field(f"{field}.expires", "must be None with never_expires")
        message.never_expires = True
    elif value.expires is not None:
        message.expires.CopyFrom(instant(f"{field}.expires", value.expires))
    return message


def index_request(value: Document | ConditionalDocument) -> search_pb2.IndexDocumentsRequest:
    """The stream message of one document."""
    item = search_pb2.IndexItem()
    if isinstance(value, ConditionalDocument):
        item.document.CopyFrom(document("document", value.document))
        item.if_version = int64("if_version", value.if_version)
    elif isinstance(value, Document):
        item.document.CopyFrom(document("document", value))
    else:
        raise InvalidArgument.field("document", f"must be a Document, not {type(value).__name__}")
    return search_pb2.IndexDocumentsRequest(item=item)


def metadata_value(field: str, value: MetadataValue) -> document_pb2.MetadataValue:
    """The typed value. `bool` comes before `int`, which it is a subclass of."""
    if isinstance(value, str):
        return document_pb2.MetadataValue(string_value=text(field, value))
    if isinstance(value, bool):
        return document_pb2.MetadataValue(bool_value=value)
    if isinstance(value, int):
        return document_pb2.MetadataValue(int64_value=int64(field, value))
    if isinstance(value, float):
        return document_pb2.MetadataValue(double_value=value)
    if isinstance(value, datetime):
        return document_pb2.MetadataValue(timestamp_value=instant(field, value))
    if isinstance(value, list | tuple):
        strings = document_pb2.StringList(values=texts(field, value))
        return document_pb2.MetadataValue(string_list=strings)
    raise InvalidArgument.field(
        field,
        f"must be a string, list of strings, integer, float, boolean or datetime, "
        f"not {type(value).__name__}",
    )


def instant(field: str, value: datetime) -> Timestamp:
    """The time, if it has a zone."""
    if not isinstance(value, datetime):
        raise InvalidArgument.field(field, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidArgument.field(field, "has no time zone; give it one: tzinfo=timezone.utc")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def within(message: Message, limit_bytes: int, field: str) -> None:
    """Raises InvalidArgument if the message is larger than the channel carries."""
    size = message.ByteSize()
    if size > limit_bytes:
        raise InvalidArgument.field(
            field, f"has {size:,} bytes, over the limit of {limit_bytes:,} a message; split it"
        )
