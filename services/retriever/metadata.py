"""The metadata of documents: checked against the schema of their collection, and as it is stored.

Raises InvalidArgument that names the field by its path.
"""

from collections.abc import Mapping, Sequence

from services.retriever import requests
from services.retriever.store.records import FieldSchema, FieldType
from sirdar.errors import InvalidArgument
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.retriever_pb2 import CandidatePassage

MAX_KEYS = 64
MAX_KEY_CHARACTERS = 128
MAX_BYTES = 64 * 2**10

# Of google.protobuf.Timestamp: the years 1 to 9999.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_NANOS = 1_000_000_000

_KINDS = {
    FieldType.KEYWORD: ("string_value",),
    FieldType.KEYWORD_LIST: ("string_list",),
    FieldType.INTEGER: ("int64_value",),
    FieldType.FLOAT: ("double_value", "int64_value"),
    FieldType.BOOLEAN: ("bool_value",),
    FieldType.TIMESTAMP: ("timestamp_value",),
    FieldType.TEXT: ("string_value",),
}


class MetadataRules:
    """What metadata of one collection must be."""

    def __init__(self, schema: Sequence[FieldSchema]) -> None:
        self._types = {field.name: field.type for field in schema}

    def stored(self, metadata: Mapping[str, MetadataValue], field: str) -> bytes:
        """As a serialized CandidatePassage with nothing else in it; empty for none.

        Protobuf, because it is lossless for every kind of value, now and when a
        newer writer adds one, which a mapping to JSON is not. Of this message,
        because each search merges it into dozens of them.
        """
        if not metadata:
            return b""
        self.check(metadata, field)
        return stored(metadata, field)

    def check(self, metadata: Mapping[str, MetadataValue], field: str) -> None:
        """Each field for itself."""
        for key, value in metadata.items():
            check_key(key, field)
            _check_value(value, f"{field}[{key}]")
            type_ = self._types.get(key)
            kind = value.WhichOneof("kind")
            if type_ is not None and kind not in _KINDS[type_]:
                raise InvalidArgument.field(
                    f"{field}[{key}]",
                    f"must be a {type_} ({' or '.join(_KINDS[type_])}) as the collection's schema "
                    f"says, not a {kind}",
                )


def stored(metadata: Mapping[str, MetadataValue], field: str) -> bytes:
    """As `MetadataRules.stored`, of what has been checked one by one."""
    if not metadata:
        return b""
    if len(metadata) > MAX_KEYS:
        raise InvalidArgument.field(field, f"must be at most {MAX_KEYS} keys")
    holder = CandidatePassage()
    for key, value in metadata.items():
        holder.metadata[key].CopyFrom(value)
    data = holder.SerializeToString(deterministic=True)
    if len(data) > MAX_BYTES:
        raise InvalidArgument.field(field, f"must be at most {MAX_BYTES} bytes together")
    return data


def holder(data: bytes) -> CandidatePassage:
    """The message that `stored` made; its metadata is a copy to change at will."""
    return CandidatePassage.FromString(data)


def check_key(key: str, field: str) -> None:
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidArgument.field(
            field, f"must have keys of 1 to {MAX_KEY_CHARACTERS} characters"
        )
    requests.no_nul(key, field)


def _check_value(value: MetadataValue, field: str) -> None:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument.field(field, "must have a value")
    if kind == "string_value":
        requests.no_nul(value.string_value, field)
    elif kind == "string_list":
        for item in value.string_list.values:
            requests.no_nul(item, field)
    elif kind == "timestamp_value":
        time = value.timestamp_value
        if not (_MIN_SECONDS <= time.seconds <= _MAX_SECONDS and 0 <= time.nanos < _NANOS):
            raise InvalidArgument.field(field, "must be a time of the years 1 to 9999")
