"""What a filter asks, checked and in one form, so that equal filters are equal values."""

from dataclasses import dataclass

from services.retriever.store.records import FieldSchema

Timestamp = tuple[int, int]
"""Seconds since the epoch and nanoseconds of the second: nanoseconds alone reach no further
than the year 2262 in 64 bits."""

Value = str | int | float | bool | Timestamp


@dataclass(frozen=True, slots=True)
class AllOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """`values` are of the field's type, ascending, none of them twice."""

    field: FieldSchema
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    value: Value
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Range:
    """None: no bound on this side."""

    field: FieldSchema
    low: Bound | None
    high: Bound | None


@dataclass(frozen=True, slots=True)
class Exists:
    field: FieldSchema


@dataclass(frozen=True, slots=True)
class Contains:
    field: FieldSchema
    text: str


Condition = AllOf | AnyOf | NoneOf | OneOf | Range | Exists | Contains
