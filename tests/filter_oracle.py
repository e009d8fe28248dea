"""Random schemas, metadata and filters, and what filters mean, document by document."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.retriever.lexical.analyzers import analyzer, prepared
from services.retriever.store.records import FieldSchema, FieldType
from sirdar.v1 import filter_pb2
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.filter_pb2 import Filter

Metadata = Mapping[str, MetadataValue]

WORDS = ("Red", "réd", "blue", "Green", "deep sea", "sky-high", "の国")
NUMBERS = (0, 1, -1, 7, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 0.1, -2.5, 1e300, float("inf"), float("-inf"), 2.0**53)
SECONDS = (0, 1, -1, -62_135_596_800, 253_402_300_799, 1_700_000_000)
NANOS = (0, 1, 999_999_999)
_WORDS_OF = analyzer("none")


def schema(draw: random.Random) -> tuple[FieldSchema, ...]:
    """One field of each type and some more."""
    types = [*FieldType, *draw.choices(list(FieldType), k=2)]
    return tuple(FieldSchema(f"f{at}", type_) for at, type_ in enumerate(types))


def metadata(draw: random.Random, fields: Sequence[FieldSchema]) -> dict[str, MetadataValue]:
    """Some of the fields; now and then with a value of another type, as from before a schema."""
    found = {}
    for field in fields:
        if draw.random() < 0.7:
            type_ = field.type if draw.random() < 0.95 else draw.choice(list(FieldType))
            found[field.name] = value(draw, type_)
    found["other"] = MetadataValue(int64_value=1)
    return found


def value(draw: random.Random, type_: FieldType) -> MetadataValue:
    made = MetadataValue()
    if type_ is FieldType.KEYWORD:
        made.string_value = draw.choice(WORDS)
    elif type_ is FieldType.KEYWORD_LIST:
        made.string_list.values.extend(draw.choices(WORDS, k=draw.randrange(4)))
    elif type_ is FieldType.INTEGER or (type_ is FieldType.FLOAT and draw.random() < 0.3):
        made.int64_value = draw.choice(NUMBERS)
    elif type_ is FieldType.FLOAT:
        made.double_value = draw.choice((*FLOATS, float("nan")))
    elif type_ is FieldType.BOOLEAN:
        made.bool_value = draw.random() < 0.5
    elif type_ is FieldType.TIMESTAMP:
        made.timestamp_value.seconds = draw.choice(SECONDS)
        made.timestamp_value.nanos = draw.choice(NANOS)
    else:
        made.string_value = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
    return made


def wanted(draw: random.Random, type_: FieldType) -> MetadataValue:
    """A value that a condition on such a field may name."""
    made = value(draw, FieldType.KEYWORD if type_ is FieldType.KEYWORD_LIST else type_)
    nan = made.double_value != made.double_value
    return MetadataValue(double_value=0.1) if nan else made


def filter_(draw: random.Random, fields: Sequence[FieldSchema], depth: int = 3) -> Filter:
    made = Filter()
    field = draw.choice(fields)
    kinds = ["exists"]
    if field.type is FieldType.TEXT:
        kinds.append("contains")
    else:
        kinds += ["equals", "one_of"]
    if field.type not in (FieldType.TEXT, FieldType.BOOLEAN, FieldType.KEYWORD_LIST):
        kinds += ["range", "range"]
    if depth:
        kinds += ["all_of", "any_of", "none_of"]
    kind = draw.choice(kinds)
    if kind in ("all_of", "any_of", "none_of"):
        parts = [filter_(draw, fields, depth - 1) for _ in range(draw.randint(1, 3))]
        getattr(made, kind).filters.extend(parts)
    elif kind == "exists":
        made.exists.field = field.name
    elif kind == "contains":
        made.contains.field, made.contains.text = field.name, draw.choice(WORDS)
    elif kind == "equals":
        made.equals.field = field.name
        made.equals.value.CopyFrom(wanted(draw, field.type))
    elif kind == "one_of":
        made.one_of.field = field.name
        made.one_of.values.extend(wanted(draw, field.type) for _ in range(draw.randint(1, 4)))
    else:
        made.range.field = field.name
        sides = [("greater_than", "at_least"), ("less_than", "at_most")]
        for names in draw.sample(sides, draw.randint(1, 2)):
            getattr(made.range, draw.choice(names)).CopyFrom(wanted(draw, field.type))
    return made


def meets(condition: Filter, document: Metadata, fields: Sequence[FieldSchema]) -> bool:
    """By the words of the contract, one document at a time."""
    kind = condition.WhichOneof("condition")
    if kind in ("all_of", "any_of", "none_of"):
        parts = [meets(item, document, fields) for item in getattr(condition, kind).filters]
        return {"all_of": all(parts), "any_of": any(parts), "none_of": not any(parts)}[kind]
    assert kind is not None
    asked = getattr(condition, kind)
    (type_,) = (field.type for field in fields if field.name == asked.field)
    have = _plain(document.get(asked.field), type_)
    if have is None:
        return False
    if kind == "exists":
        return True
    if kind == "contains":
        return set(_words(asked.text)) <= set(_words(str(have[0])))
    if kind == "range":
        return _within(asked, have[0], type_)
    values = asked.values if kind == "one_of" else [asked.value]
    return any(_one(item, type_) in have for item in values)


def _words(text: str) -> list[str]:
    return _WORDS_OF.analyze(prepared(text))


def _one(item: MetadataValue, type_: FieldType) -> object:
    (plain,) = _plain(item, FieldType.KEYWORD if type_ is FieldType.KEYWORD_LIST else type_) or [0]
    return plain


def _plain(item: MetadataValue | None, type_: FieldType) -> list[object] | None:
    """What a document has in a field of this type; None: nothing."""
    kind = item.WhichOneof("kind") if item is not None else None
    if item is None or kind is None:
        return None
    if type_ is FieldType.KEYWORD_LIST:
        return list(item.string_list.values) if kind == "string_list" else None
    if type_ is FieldType.FLOAT and kind in ("int64_value", "double_value"):
        return [float(getattr(item, kind))]
    right = {
        FieldType.KEYWORD: "string_value",
        FieldType.TEXT: "string_value",
        FieldType.INTEGER: "int64_value",
        FieldType.BOOLEAN: "bool_value",
        FieldType.TIMESTAMP: "timestamp_value",
    }
    if kind != right.get(type_):
        return None
    if kind == "timestamp_value":
        return [(item.timestamp_value.seconds, item.timestamp_value.nanos)]
    return [getattr(item, kind)]


def _within(asked: filter_pb2.RangeCondition, have: object, type_: FieldType) -> bool:
    checks: dict[str, Callable[[Any, Any], bool]] = {
        "greater_than": lambda a, b: a > b,
        "at_least": lambda a, b: a >= b,
        "less_than": lambda a, b: a < b,
        "at_most": lambda a, b: a <= b,
    }
    return all(
        check(have, _one(getattr(asked, name), type_))
        for name, check in checks.items()
        if asked.HasField(name)  # type: ignore[arg-type]
    )
